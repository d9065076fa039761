# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bilinear interpolation whose gradients are deterministic on every device."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.pixels import gather_pixels


def sample_bilinear(images: torch.Tensor, grid: torch.Tensor, padding: str) -> torch.Tensor:
    """Interpolate images as ``F.grid_sample(images, grid, "bilinear", padding, align_corners=False)`` does.

    The gradient of that function is not deterministic on a GPU and cannot be differentiated again. Where a gradient is
    asked for, this function reads the four neighbours of each place instead; results agree up to rounding.

    Args:
        images: Shape (B, C, H, W), floating point.
        grid: Places x and y in the image as ``grid_sample`` takes them, from -1 to 1, shape (B, h, w, 2).
        padding: ``zeros``, ``border`` or ``reflection``: what lies beyond the outermost pixels.

    Returns:
        The interpolated pixels (B, C, h, w).
    """
    if not (torch.is_grad_enabled() and (images.requires_grad or grid.requires_grad)):
        return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    height, width = images.shape[-2:]
    x, y = grid.flatten(1, 2).unbind(-1)
    rows, cols = _neighbours(y, height, padding), _neighbours(x, width, padding)
    corners = [
        gather_pixels(images, (row * width + col).unsqueeze(1)) * (row_weight * col_weight).unsqueeze(1)
        for row, row_weight in rows
        for col, col_weight in cols
    ]
    return torch.stack(corners).sum(dim=0).unflatten(2, grid.shape[1:3])


def _neighbours(place: torch.Tensor, size: int, padding: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Give the two pixels beside each place (B, L) along one axis, and their weights."""
    # Rounded as grid_sample rounds.
    position = ((place + 1) * size - 1) / 2
    if padding == "reflection":
        distance = (position + 0.5).abs().remainder(2 * size)
        position = torch.minimum(distance, 2 * size - distance) - 0.5
    if padding != "zeros":
        position = position.clamp(0, size - 1)
    first = position.detach().floor()
    pairs = ((first, first + 1 - position), (first + 1, position - first))
    return [(pixel.clamp(0, size - 1).long(), weight * ((pixel >= 0) & (pixel < size))) for pixel, weight in pairs]
