# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Heat maps from feature maps of several stages: how far each place is from the same place of normal images."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.located_gaussian import LocatedGaussianDensity

DIMENSIONS = 60
"""Most principal directions of the joined features that are kept."""


class PlaceDistance(nn.Module):
    """Mahalanobis distance of the joined features of several stages to the normal ones of the same place.

    The idea is PaDiM's (Defard et al., 2020, https://arxiv.org/abs/2011.08785): features of stages with small and large
    receptive fields, brought to one grid and joined, one Gaussian per place. The grid is that of the middle stage, and
    dimensions are principal directions in place of random ones: this package's choices.

    Args:
        shapes: Shape (C, h, w) of each stage's map, the largest map first.

    Example:
        >>> import torch
        >>> stages = [torch.randn(9, 4, 8, 8), torch.randn(9, 6, 4, 4), torch.randn(9, 8, 2, 2)]
        >>> places = PlaceDistance([tuple(stage.shape[1:]) for stage in stages])
        >>> places.fit(lambda: [stages])
        >>> places(stages).shape
        torch.Size([9, 1, 4, 4])
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        self.grid = shapes[len(shapes) // 2][1:]
        num_features = sum(channels for channels, _, _ in shapes)
        self.density = LocatedGaussianDensity(
            num_features, self.grid, min(DIMENSIONS, num_features), l2_normalize=False
        )

    def forward(self, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """Compare maps (B, C, h, w) of each stage: distances of the grid's places (B, 1, h, w), of at least 0.

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
            ValueError: If the maps have other sizes.
        """
        half_squares: torch.Tensor = self.density(self._joined(stages))
        return (2 * half_squares).sqrt()

    def fit(self, batches: Callable[[], Iterable[Sequence[torch.Tensor]]]) -> None:
        """Fit to normal images; arguments and errors are those of :meth:`LocatedGaussianDensity.fit`, of stages."""
        self.density.fit(lambda: (self._joined(stages) for stages in batches()))

    def _joined(self, stages: Sequence[torch.Tensor]) -> torch.Tensor:
        """Bring all maps to the grid; to half the size that is the mean of four."""
        return torch.cat([F.interpolate(stage, self.grid, mode="bilinear") for stage in stages], dim=1)
