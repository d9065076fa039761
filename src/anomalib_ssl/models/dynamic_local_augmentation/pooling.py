# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Averaging feature maps down to a smaller grid."""

import torch


def average_pool(features: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    """Average features over a grid of parts, as ``F.adaptive_avg_pool2d`` does.

    A product with one small matrix from either side has a gradient that is the same each time; that of torch's function
    is not on a GPU.

    Args:
        features: Shape (B, C, h, w).
        rows: Rows of the result.
        cols: Columns of the result.

    Returns:
        Shape (B, C, rows, cols), in float32.

    Example:
        >>> import torch
        >>> average_pool(torch.arange(16.0).view(1, 1, 4, 4), 2, 2).squeeze()
        tensor([[ 2.5000,  4.5000],
                [10.5000, 12.5000]])
    """
    if features.shape[-2:] == (rows, cols):
        return features.float()
    down, right = (
        _parts(side, count, features.device) for side, count in zip(features.shape[-2:], (rows, cols), strict=True)
    )
    with torch.autocast(features.device.type, enabled=False):
        return down @ (features.float() @ right.T)


def _parts(side: int, count: int, device: torch.device) -> torch.Tensor:
    """What each of so many positions contributes to the mean of each part, shape (count, side)."""
    part = torch.arange(count, device=device).unsqueeze(1)
    # Rounded outwards: parts overlap where their number does not divide the side.
    first, end = part * side // count, ((part + 1) * side + count - 1) // count
    position = torch.arange(side, device=device)
    return ((position >= first) & (position < end)) / (end - first)
