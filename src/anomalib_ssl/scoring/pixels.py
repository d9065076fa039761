# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Maps of errors: of several kinds brought to one scale, or standardised pixel by pixel."""

import torch

from anomalib_ssl.scoring.box_filter import box_filter
from anomalib_ssl.scoring.map_part import MapPart
from anomalib_ssl.scoring.moments import update_mean_and_variance

LEAST_DEVIATION = 0.1
"""Least standard deviation of a pixel, as a part of the root mean square over all pixels."""


class Errors(MapPart):
    """Divide errors of each kind by their mean over normal images, and average the kinds.

    Args:
        source: Name of the evidence.
        kinds: Number K of kinds.

    Example:
        >>> import torch
        >>> errors = Errors("both", 2)
        >>> errors.start()
        >>> errors.update(torch.tensor([2.0, 10.0]).view(1, 2, 1, 1))
        >>> errors.finish()
        >>> errors(torch.tensor([4.0, 10.0]).view(1, 2, 1, 1)).item()
        1.5
    """

    mean: torch.Tensor

    def __init__(self, source: str, kinds: int = 1) -> None:
        super().__init__(source)
        self.register_buffer("mean", torch.ones(kinds, 1, 1))
        self.learns = kinds > 1  # what all errors are divided by, standardised scores do not depend on

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Average errors (B, K, H, W) over their kinds: shape (B, 1, H, W).

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
        """
        self.require_fitted()
        return (evidence / self.mean).mean(dim=1, keepdim=True)

    def start(self) -> None:
        """Forget what was fitted."""
        self.forget()
        self._means: list[torch.Tensor] = []

    @torch.no_grad()
    def update(self, evidence: torch.Tensor) -> None:
        """Take errors (B, K, H, W) of normal images into account."""
        self._means.append(evidence.mean(dim=(2, 3)))

    def finish(self) -> None:
        """Take the means; where there never is an error, it is 1.

        Raises:
            ValueError: If there were no images, or errors are not finite.
        """
        if not self._means:
            msg = "Means of normal errors need clean images, got none."
            raise ValueError(msg)
        means = torch.cat(self._means)
        mean = means.mean(dim=0)
        self.mean.copy_(torch.where(mean == 0, 1.0, mean).view_as(self.mean))
        self._set_fitted(len(means))


class Pixels(MapPart):
    """Subtract the mean map of normal images and divide by its standard deviation, pixel by pixel; average the kinds.

    For objects that lie alike in every image: edges that are hard to restore then count for less. Mean and variance
    are smoothed, because there are few normal images and their objects do not lie alike to the pixel. This is this
    package's choice.

    Args:
        source: Name of the evidence.
        size: Height and width of the maps in pixels.
        box_size: Side in pixels of the window that smooths mean and variance, odd.
        kinds: Number K of kinds of errors.

    Example:
        >>> import torch
        >>> maps = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> pixels = Pixels("error", (8, 8), box_size=1)
        >>> pixels.start()
        >>> for batch in maps.split(20):
        ...     pixels.update(batch)
        >>> pixels.finish()
        >>> torch.allclose(pixels(maps).mean(dim=0), torch.zeros(1, 8, 8), atol=1e-5)
        True
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, source: str, size: tuple[int, int], box_size: int, kinds: int = 1) -> None:
        super().__init__(source)
        self.box_size = box_size
        self.register_buffer("mean", torch.zeros(1, kinds, *size))
        self.register_buffer("deviation", torch.ones(1, kinds, *size))

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Compare errors (B, K, H, W) with those of normal images: shape (B, 1, H, W).

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
            ValueError: If the maps have another size.
        """
        self.require_fitted()
        self._check_size(evidence)
        return ((evidence - self.mean) / self.deviation).mean(dim=1, keepdim=True)

    def start(self) -> None:
        """Forget what was fitted."""
        self.forget()
        self._count = 0
        self._mean, self._variance = torch.zeros_like(self.mean), torch.zeros_like(self.mean)

    def update(self, evidence: torch.Tensor) -> None:
        """Take errors (B, K, H, W) of normal images into account.

        Raises:
            ValueError: If they have another size.
        """
        self._check_size(evidence)
        self._count = update_mean_and_variance(self._mean[0], self._variance[0], self._count, evidence)

    def finish(self) -> None:
        """Smooth mean and variance; a single map has no deviation, and 1 is taken for it everywhere.

        Raises:
            ValueError: If there were no maps, or they are not finite.
        """
        if self._count == 0:
            msg = "Statistics of normal maps need clean images, got none."
            raise ValueError(msg)
        variance = box_filter(self._variance, self.box_size)
        least = (LEAST_DEVIATION**2 * variance.mean(dim=(2, 3), keepdim=True)).clamp(min=1e-24)
        self.mean.copy_(box_filter(self._mean, self.box_size))
        self.deviation.copy_(variance.maximum(least).sqrt() if self._count > 1 else torch.ones_like(variance))
        self._set_fitted(self._count)

    def _check_size(self, maps: torch.Tensor) -> None:
        if maps.shape[-2:] != self.mean.shape[-2:]:
            msg = f"images must be of image_size={tuple(self.mean.shape[-2:])}, got {tuple(maps.shape[-2:])}."
            raise ValueError(msg)
