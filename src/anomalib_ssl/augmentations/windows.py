# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Reading and writing one window per image with integer indices: exact pixels, no loop over the batch.

A window has the same size for the whole batch, large enough for the largest region that may be drawn; each sample's own
region inside it is given by a mask. Only the window is ever touched, which is what makes small pastes cheap.
"""

import torch


def window_positions(start: torch.Tensor, length: int, limit: int) -> torch.Tensor:
    """Place a window of ``length`` positions so that it begins at ``start`` but never leaves ``{0, ..., limit - 1}``.

    Near the far border the window moves back rather than being cut, so no position occurs twice and writing to the
    window is well defined.

    Args:
        start: First position of the region, shape (B,).
        length: Size of the window, at most ``limit``.
        limit: Size of the image along this axis.

    Returns:
        Positions, shape (B, length).
    """
    return start.clamp(max=limit - length).unsqueeze(1) + torch.arange(length, device=start.device)


def flat_index(rows: torch.Tensor, cols: torch.Tensor, width: int) -> torch.Tensor:
    """Combine row (B, h) and column (B, w) positions to indices (B, 1, h * w) into flattened images."""
    return (rows.unsqueeze(2) * width + cols.unsqueeze(1)).flatten(1).unsqueeze(1)


def gather_window(images: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
    """Read the pixels at the given rows (B, h) and columns (B, w) of images (B, C, H, W).

    Returns:
        Windows, shape (B, C, h, w).
    """
    batch, channels, _, width = images.shape
    index = flat_index(rows, cols, width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view(batch, channels, rows.shape[1], cols.shape[1])


def paste_window(
    images: torch.Tensor,
    windows: torch.Tensor,
    inside: torch.Tensor,
    rows: torch.Tensor,
    cols: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Write windows into copies of the images, where ``inside`` says so.

    Args:
        images: Shape (B, C, H, W).
        windows: New pixels, shape (B, C, h, w).
        inside: Boolean, shape (B, 1, h, w).
        rows: Distinct row positions of each window, shape (B, h).
        cols: Distinct column positions of each window, shape (B, w).

    Returns:
        The changed images (B, C, H, W) and boolean masks (B, 1, H, W) of the pixels written.
    """
    batch, channels, height, width = images.shape
    index = flat_index(rows, cols, width)
    source = images.flatten(2)
    index_all = index.expand(-1, channels, -1)
    current = source.gather(2, index_all)
    written = torch.where(inside.flatten(2), windows.flatten(2), current)
    result = source.scatter(2, index_all, written).view(batch, channels, height, width)
    masks = torch.zeros(batch, 1, height * width, dtype=torch.bool, device=images.device)
    masks = masks.scatter(2, index, inside.flatten(2)).view(batch, 1, height, width)
    return result, masks
