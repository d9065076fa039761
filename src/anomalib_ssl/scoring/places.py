# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Maps of how far the features of each place are from those of the same place in normal images."""

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.located_gaussian import LocatedGaussianDensity
from anomalib_ssl.scoring.map_part import MapPart

DIMENSIONS = 60
"""Most principal directions of a network's features that are kept."""

MOST_PLACES = 64
"""Twice so many places in a row are too many: a Gaussian each would take gigabytes. At 512 pixels there are 64."""

STEADY = 1e-4
"""Variance over an image that is added to a channel's own, so that noise in one that is hardly active stays small."""


class Places(MapPart):
    """Mahalanobis distance of the features of each place to the normal ones of the same place.

    The idea is PaDiM's (Defard et al., 2020, https://arxiv.org/abs/2011.08785): features of stages with small and large
    receptive fields, joined, one Gaussian per place. Dimensions are principal directions in place of random ones, and
    features may be compared without an image's own contrast: this package's choices.

    Args:
        source: Name of the evidence, or several joined by ``+``.
        shape: Number of channels, or of those of each evidence, height and width of the features.
        contrast: Whether the contrast of an image counts. Where not, each channel is first brought to a mean of 0 and a
            standard deviation of 1 over the image, as instance norm does.
        dimensions: Number of principal directions that are kept, if there are as many channels; one for each evidence.

    Example:
        >>> import torch
        >>> features = torch.randn(9, 18, 4, 4)
        >>> places = Places("features", (18, 4, 4))
        >>> places.start()
        >>> places.update(features)
        >>> places.finish()
        >>> places(features).shape
        torch.Size([9, 1, 4, 4])
    """

    def __init__(
        self,
        source: str,
        shape: tuple[int | Sequence[int], int, int],
        contrast: bool = True,
        dimensions: int | Sequence[int] = DIMENSIONS,
    ) -> None:
        super().__init__(source)
        lengths, *grid = shape
        channels = lengths if isinstance(lengths, Sequence) else [lengths]
        wanted = dimensions if isinstance(dimensions, Sequence) else [dimensions]
        kept = [min(pair) for pair in zip(wanted, channels, strict=True)]
        self.contrast = contrast
        self.density = LocatedGaussianDensity(channels, (grid[0], grid[1]), kept, l2_normalize=False)

    def start(self) -> None:
        """Forget what was fitted."""
        self.forget()
        self.density.start()

    def update(self, evidence: torch.Tensor) -> None:
        """Take features (B, C, h, w) of normal images into account."""
        self.density.update(self._compared(evidence))

    def finish(self) -> None:
        """Estimate the Gaussians.

        Raises:
            ValueError: If there were fewer than 2 images, or features are not finite.
        """
        self.density.finish()
        self._set_fitted(int(self.density.num_fitted))

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map features (B, C, h, w) to distances (B, 1, h, w), of at least 0.

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
        """
        self.require_fitted()
        half_squares: torch.Tensor = self.density(self._compared(evidence))
        return (2 * half_squares).sqrt()

    def left_out(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map features (B, C, h, w) of training images as if each image had not been fitted to.

        To take one of N images away changes mean and covariance by one rank: a squared distance ``d`` becomes
        ``d N / (N - 1) / (1 - d / (N - 1))``, by the formula of Sherman and Morrison, if the ridge grows by
        ``N / (N - 1)``, too. With fewer images than dimensions all training images lie at nearly the same distance, and
        others far beyond.
        """
        others = int(self.num_fitted) - 1
        # In float64, where every machine has it: what is left of 1 is small.
        squares = 2 * deepcopy(self.density).cpu().double()(self._compared(evidence.cpu().double()))
        share = (1 - squares / others).clamp(min=1e-6)
        return (squares * (others + 1) / others / share).sqrt().to(evidence)

    def _compared(self, features: torch.Tensor) -> torch.Tensor:
        return features if self.contrast else F.instance_norm(features, eps=STEADY)


def join(stages: Sequence[torch.Tensor], most: int = MOST_PLACES) -> torch.Tensor:
    """Bring feature maps (B, C, h, w) of several stages to the grid of the middle one, and put them together.

    Twice as fine a stage comes to it by the mean of four places. Stages are averaged until the shorter side has less
    than twice the ``most`` places.
    """
    times = [min(stage.shape[-2:]) // most for stage in stages]
    stages = [F.avg_pool2d(stage, n) if n > 1 else stage for stage, n in zip(stages, times, strict=True)]
    grid = stages[len(stages) // 2].shape[-2:]
    return torch.cat([F.interpolate(stage, grid, mode="bilinear") for stage in stages], dim=1)
