# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gaussian receptive-field upsampling: from one score a window to one score a pixel."""

import math

import torch

from anomalib_ssl.checks import check_number, check_whole
from anomalib_ssl.scoring.windows import grid_size


def gaussian_upsample(
    maps: torch.Tensor,
    size: tuple[int, int],
    window_size: int = 32,
    stride: int = 4,
    sigma: float = 10.0,
) -> torch.Tensor:
    """Spread the score of each window over its pixels, by a transposed convolution with one fixed Gaussian kernel.

    Each pixel gets the weighted mean of its windows' scores, so that a constant map stays constant.

    This is the upsampling of FCDD (Liznerski et al., "Explainable deep one-class classification", ICLR 2021) as Li et
    al., CVPR 2021, use it (appendix A.5): a kernel of the window's size, 32, and the windows' stride, 4. They do not
    give its standard deviation; 10 is that of FCDD's code for kernels of this size. The kernel's centre is the
    window's, for even sizes between two pixels. Means in place of sums, which fade towards the border, where fewer
    windows overlap, are this package's.

    The Gaussian is separable and scores have one channel, so that the transposed convolution is a product with one
    matrix from the left and one from the right. That is faster than any convolution.

    Args:
        maps: Scores of the windows, shape (B, 1, h, w).
        size: Height H and width W of the images in pixels. The grid of their windows must be h x w. Rest at the right
            and bottom that no window covers repeats the last covered column and row.
        window_size: Side of a window in pixels.
        stride: Distance between windows in pixels, at most ``window_size``.
        sigma: Standard deviation of the kernel in pixels, of at least 0.001.

    Returns:
        Scores of the pixels, shape (B, 1, H, W).

    Raises:
        ValueError: If an argument is outside its limits or the grid does not belong to the size.
    """
    check_whole("stride", stride, 1, window_size)
    check_number("sigma", sigma, 1e-3)
    grid = grid_size(size, window_size, stride)
    if tuple(maps.shape[-2:]) != grid:
        msg = f"maps must have the grid {grid[0]} x {grid[1]} of size={tuple(size)}, got shape {tuple(maps.shape)}."
        raise ValueError(msg)
    # At least float32: half precision cannot count pixels.
    dtype = torch.promote_types(maps.dtype, torch.float32)
    rows, columns = (
        _spread(torch.arange(side, dtype=dtype, device=maps.device), count, window_size, stride, sigma)
        for side, count in zip(size, grid, strict=True)
    )
    return rows.to(maps.dtype) @ maps @ columns.T.to(maps.dtype)


def _spread(pixels: torch.Tensor, count: int, window_size: int, stride: int, sigma: float) -> torch.Tensor:
    """Weights of ``count`` windows at the ``pixels`` 0, 1, ... of one axis, shape (number of pixels, count)."""
    center = (window_size - 1) / 2
    covered = pixels.clamp(max=(count - 1) * stride + window_size - 1)
    offset = covered.unsqueeze(1) - stride * pixels[:count] - center
    exponent = (-0.5 * (offset / sigma).square()).masked_fill(offset.abs() > center, -math.inf)
    return exponent.softmax(dim=1)
