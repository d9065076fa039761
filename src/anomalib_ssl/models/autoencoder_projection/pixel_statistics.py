# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What anomaly maps of normal images look like at each pixel."""

from collections.abc import Iterable
from typing import Literal

import torch

from anomalib_ssl.checks import check_choice
from anomalib_ssl.scoring import Fitted
from anomalib_ssl.scoring.box_filter import box_filter

STATISTICS = ("mean", "standardize")
"""Names of what can be done with them."""

LEAST_DEVIATION = 0.1
"""Least standard deviation of a pixel, as a part of the root mean square over all pixels."""


class PixelStatistics(Fitted):
    """Subtract the mean map of normal images, and optionally divide by its standard deviation, pixel by pixel.

    For objects that lie alike in every image: edges that are hard to reconstruct then count for less. Mean and variance
    are smoothed, because there are few normal images and their objects do not lie alike to the pixel. This is this
    package's choice; it is not in the paper.

    Args:
        kind: ``mean`` subtracts, ``standardize`` also divides.
        size: Height and width of the maps in pixels.
        box_size: Side in pixels of the window that smooths mean and variance, odd.
        box_passes: How many times it does so.

    Raises:
        ValueError: If ``kind`` is unknown.

    Example:
        >>> import torch
        >>> maps = torch.rand(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> statistics = PixelStatistics("standardize", (8, 8), box_size=1, box_passes=1)
        >>> statistics.fit(maps.split(20))
        >>> torch.allclose(statistics(maps).mean(dim=0), torch.zeros(1, 8, 8), atol=1e-5)
        True
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(
        self, kind: Literal["mean", "standardize"], size: tuple[int, int], box_size: int, box_passes: int
    ) -> None:
        super().__init__()
        check_choice("map_statistics", kind, STATISTICS)
        self.kind = kind
        self.box_size = box_size
        self.box_passes = box_passes
        self.register_buffer("mean", torch.zeros(1, 1, *size))
        self.register_buffer("deviation", torch.ones(1, 1, *size))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Compare maps (B, 1, H, W) with those of normal images.

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
            ValueError: If the maps have another size.
        """
        self.require_fitted()
        self._check_size(maps)
        maps = maps - self.mean
        return maps / self.deviation if self.kind == "standardize" else maps

    @torch.no_grad()
    def fit(self, batches: Iterable[torch.Tensor]) -> None:
        """Estimate mean and deviation from maps of normal images (B, 1, H, W), in one pass.

        A single map has no deviation: 1 is taken for it everywhere.

        Raises:
            ValueError: If the maps have another size or are not finite, or there are none.
        """
        self.forget()
        # Chan, Golub and LeVeque's rule for merging variances, which float32 stands.
        count, mean, squares = 0, torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        for maps in batches:
            self._check_size(maps)
            total = count + len(maps)
            batch_mean = maps.mean(dim=0, keepdim=True)
            shift = batch_mean - mean
            squares += (maps - batch_mean).square().sum(dim=0, keepdim=True)
            squares += shift.square() * (count * len(maps) / total)
            mean = mean + shift * (len(maps) / total)
            count = total
        if count == 0:
            msg = "Statistics of normal maps need clean images, got none."
            raise ValueError(msg)
        variance = box_filter(squares / count, self.box_size, self.box_passes)
        least = (LEAST_DEVIATION**2 * variance.mean()).clamp(min=1e-24)
        self.mean.copy_(box_filter(mean, self.box_size, self.box_passes))
        self.deviation.copy_(variance.maximum(least).sqrt() if count > 1 else torch.ones_like(variance))
        self._set_fitted(count)

    def _check_size(self, maps: torch.Tensor) -> None:
        if maps.shape[-2:] != self.mean.shape[-2:]:
            expected = tuple(self.mean.shape[-2:])
            msg = f"map_statistics is for images of image_size={expected}, got {tuple(maps.shape[-2:])}."
            raise ValueError(msg)
