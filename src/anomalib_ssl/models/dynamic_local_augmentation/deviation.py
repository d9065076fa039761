# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How far feature maps are from the mean ones of normal images."""

from collections.abc import Sequence
from typing import Literal

import torch

from anomalib_ssl.checks import check_choice
from anomalib_ssl.scoring import Fitted
from anomalib_ssl.scoring.moments import update_mean_and_variance

NORMALIZATIONS = ("none", "train", "variance")
"""Names of what squared distances are divided by."""

VARIANCE_FLOOR = 0.01
"""Least variance that one is divided by, as a share of its stage's: some channels of a network are always zero."""


class MapDeviation(Fitted):
    """Squared distance of feature maps of several stages to the mean maps of normal images, the mean over channels.

    ``E(u) = mean over c of w(c, u) (F(c, u) - mu(c, u))^2``. A regression error to the mean feature map is reported of
    the paper by a secondary note; the mean over channels and the weights w are this package's choices. Those of
    ``variance`` go as ``1 / ((v(c, u) + mean over u of v(c, u)) / 2)``: halfway between the variance v at a place,
    which few images tell badly, and that of the whole channel; with a small floor.

    Means and variances come from one pass over the images: batches are merged by Chan, Golub and LeVeque's rule, which
    float32 stands.

    Args:
        shapes: Shape (C, h, w) of each stage's map.
        normalize: What squared distances are divided by: ``train``, the mean error of their stage over the training
            images; ``variance``, how much their place and channel vary over these, and then as ``train``; or ``none``.

    Raises:
        ValueError: If ``normalize`` is unknown.

    Example:
        >>> import torch
        >>> maps = torch.randn(50, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> deviation = MapDeviation([(4, 8, 8)])
        >>> deviation.start()
        >>> for batch in maps.split(20):
        ...     deviation.update([batch])
        >>> deviation.finish()
        >>> (error,) = deviation([maps])
        >>> error.shape, round(float(error.mean()), 4)
        (torch.Size([50, 1, 8, 8]), 1.0)
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        normalize: Literal["none", "train", "variance"] = "train",
    ) -> None:
        super().__init__()
        check_choice("normalize", normalize, NORMALIZATIONS)
        self.shapes = [tuple(shape) for shape in shapes]
        self.normalize = normalize
        # On the host, where nothing waits for it.
        self._seen = 0
        for number, shape in enumerate(self.shapes):
            self.register_buffer(f"mean_{number}", torch.zeros(shape))
            self.register_buffer(f"variance_{number}", torch.zeros(shape))

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compare maps (B, C, h, w) of each stage with those of normal images.

        Returns:
            Errors (B, 1, h, w) of each stage, of at least 0.

        Raises:
            NotFittedError: If nothing has been fitted and no fitted state was loaded.
            ValueError: If the maps have another size.
        """
        self.require_fitted()
        self._check(maps)
        errors = []
        for number, features in enumerate(maps):
            squares = (features - self._mean(number)).square()
            if self.normalize != "none":
                squares = squares * self._weights(number)
            errors.append(squares.mean(dim=1, keepdim=True))
        return errors

    @property
    def mean_errors(self) -> torch.Tensor:
        """Mean error of the training images for each stage, before any normalisation."""
        return torch.stack([self._variance(number).mean() for number in range(len(self.shapes))])

    def start(self) -> None:
        """Forget what was fitted."""
        self.forget()
        self._seen = 0
        for buffer in self.buffers():
            buffer.zero_()

    def update(self, maps: Sequence[torch.Tensor]) -> None:
        """Take maps (B, C, h, w) of each stage of normal images into account.

        Raises:
            ValueError: If the maps have another size.
        """
        self._check(maps)
        seen = self._seen
        for number, features in enumerate(maps):
            self._seen = update_mean_and_variance(self._mean(number), self._variance(number), seen, features)

    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there was no image, or a value is not finite.
        """
        if self._seen == 0:
            msg = "Mean feature maps need at least 1 image, got none."
            raise ValueError(msg)
        self._set_fitted(self._seen)

    def _mean(self, number: int) -> torch.Tensor:
        return getattr(self, f"mean_{number}")

    def _variance(self, number: int) -> torch.Tensor:
        return getattr(self, f"variance_{number}")

    def _weights(self, number: int) -> torch.Tensor:
        """What squared distances are multiplied with, so that their mean over the training images is 1."""
        variance = self._variance(number)
        normal = variance.mean()
        if self.normalize == "train":
            return 1 / torch.where(normal > 0, normal, 1.0)
        known = (variance + variance.mean(dim=(1, 2), keepdim=True)) / 2 + VARIANCE_FLOOR * normal
        weights = 1 / torch.where(normal > 0, known, 1.0)
        return weights / torch.where(normal > 0, (variance * weights).mean(), 1.0)

    def _check(self, maps: Sequence[torch.Tensor]) -> None:
        sizes = [tuple(features.shape[1:]) for features in maps]
        if sizes != self.shapes:
            msg = f"Images must be of image_size, with feature maps of {self.shapes}, got {sizes}."
            raise ValueError(msg)
