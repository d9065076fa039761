# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How far feature maps are from the mean ones of normal images."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from anomalib_ssl.checks import check_choice
from anomalib_ssl.scoring import NotFittedError

MEANS = ("position", "channel")
"""Names of what a mean is taken over."""


class MapDeviation(nn.Module):
    """Squared distance of feature maps of several stages to the mean maps of normal images, the mean over channels.

    ``E(u) = mean over c of (F(c, u) - mu(c, u))^2``. A regression error to the mean feature map is reported of the
    paper by a secondary note; the mean over channels, means per channel, and the division by the mean error of the
    training images are this package's choices.

    Means and mean errors come from one pass over the images, since the mean error is a variance: batches are merged by
    Chan, Golub and LeVeque's rule, which float32 stands.

    Args:
        shapes: Shape (C, h, w) of each stage's map.
        mean: ``position`` for a mean at each place, for products that lie alike in every image, or ``channel`` for one
            over all places, for textures and turned objects.
        normalize: Whether the errors of a stage are divided by their mean over the training images.

    Raises:
        ValueError: If ``mean`` is unknown.

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

    count: torch.Tensor

    def __init__(
        self,
        shapes: Sequence[tuple[int, int, int]],
        mean: Literal["position", "channel"] = "position",
        normalize: bool = True,
    ) -> None:
        super().__init__()
        check_choice("mu_mode", mean, MEANS)
        self.shapes = [tuple(shape) for shape in shapes]
        self.per_position = mean == "position"
        self.normalize = normalize
        self.is_fitted = False
        # On the host, where nothing waits for it.
        self._seen = 0
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        for number, (channels, height, width) in enumerate(self.shapes):
            size = (channels, height, width) if self.per_position else (channels, 1, 1)
            self.register_buffer(f"mean_{number}", torch.zeros(size))
            self.register_buffer(f"error_{number}", torch.zeros(()))

    def forward(self, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Compare maps (B, C, h, w) of each stage with those of normal images.

        Returns:
            Errors (B, 1, h, w) of each stage, of at least 0.

        Raises:
            NotFittedError: If nothing has been fitted and no fitted state was loaded.
            ValueError: If the maps of ``position`` means have another size.
        """
        if not self.is_fitted:
            msg = "The mean feature maps of normal images have not been fitted: train the model or load a checkpoint."
            raise NotFittedError(msg)
        self._check(maps)
        errors = []
        for number, features in enumerate(maps):
            error = (features - self._mean(number)).square().mean(dim=1, keepdim=True)
            if self.normalize:
                normal = self._error(number)
                error = error / torch.where(normal > 0, normal, 1.0)
            errors.append(error)
        return errors

    @property
    def mean_errors(self) -> torch.Tensor:
        """Mean error of the training images for each stage, before any normalisation."""
        return torch.stack([self._error(number) for number in range(len(self.shapes))])

    def start(self) -> None:
        """Forget what was fitted."""
        self.is_fitted = False
        self._seen = 0
        for buffer in self.buffers():
            buffer.zero_()

    @torch.no_grad()
    def update(self, maps: Sequence[torch.Tensor]) -> None:
        """Take maps (B, C, h, w) of each stage of normal images into account.

        Raises:
            ValueError: If the maps of ``position`` means have another size.
        """
        self._check(maps)
        count, added = self._seen, len(maps[0])
        for number, features in enumerate(maps):
            axes = (0,) if self.per_position else (0, 2, 3)
            batch_mean = features.float().mean(dim=axes).view_as(self._mean(number))
            shift = batch_mean - self._mean(number)
            spread = (features.float() - batch_mean).square().mean()
            share = added / (count + added)
            # The mean square of what was there and of what is added, and that of the distance between their means.
            self._error(number).lerp_(spread, share).add_(shift.square().mean(), alpha=share * (1 - share))
            self._mean(number).add_(shift, alpha=share)
        self._seen = count + added

    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there was no image, or a value is not finite.
        """
        if self._seen == 0:
            msg = "Mean feature maps need at least 1 image, got none."
            raise ValueError(msg)
        if not self.mean_errors.isfinite().all():
            msg = "features must be finite, got NaN or infinity: has the training diverged?"
            raise ValueError(msg)
        self.count.fill_(self._seen)
        self.is_fitted = True

    def _mean(self, number: int) -> torch.Tensor:
        mean: torch.Tensor = getattr(self, f"mean_{number}")
        return mean

    def _error(self, number: int) -> torch.Tensor:
        error: torch.Tensor = getattr(self, f"error_{number}")
        return error

    def _check(self, maps: Sequence[torch.Tensor]) -> None:
        sizes = [tuple(features.shape[1:]) for features in maps]
        if self.per_position and sizes != self.shapes:
            msg = (
                f"mu_mode='position' needs images of image_size, with maps of {self.shapes}, got {sizes}; "
                "mu_mode='channel' takes any size."
            )
            raise ValueError(msg)

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # Kept as a plain bool: reading the buffer at every score would synchronise with the device.
        self.is_fitted = bool(self.count > 0)
