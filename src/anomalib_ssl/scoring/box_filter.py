# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Smoothing of maps by averaging over a square window, twice."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_whole


def box_filter(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Average maps over a square window, and the averages once more.

    At the border the average is over the pixels that exist, so a constant map stays as it is. That comes close to a
    Gaussian of standard deviation ``sqrt((size**2 - 1) / 6)``; a single pixel spreads over ``2 * size - 1`` pixels.

    Args:
        maps: Shape (B, C, H, W).
        size: Side of the window in pixels, odd. 1 leaves the maps as they are.

    Returns:
        The smoothed maps, shape (B, C, H, W).

    Raises:
        ValueError: If ``size`` is even or less than 1.

    Example:
        >>> import torch
        >>> box_filter(torch.tensor([[[[0.0, 6.0, 0.0]]]]), size=3)
        tensor([[[[2.5000, 2.6667, 2.5000]]]])
    """
    check_whole("size", size, 1)
    if size % 2 == 0:
        msg = f"size must be an odd number of pixels, got {size}."
        raise ValueError(msg)
    if size == 1:
        return maps
    # Window and number of existing pixels are products of a row's and a column's, so one direction at a time is exact.
    radius = size // 2
    for _ in range(2):
        maps = F.avg_pool2d(maps, (size, 1), stride=1, padding=(radius, 0), count_include_pad=False)
        maps = F.avg_pool2d(maps, (1, size), stride=1, padding=(0, radius), count_include_pad=False)
    return maps


def default_box_size(image_size: tuple[int, int]) -> int:
    """The odd number nearest to a 24th of the shorter side, at least 1: 11 at 256 pixels, 21 at 512."""
    return 2 * round((min(image_size) / 24 - 1) / 2) + 1
