# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Windows of a batch of images: each at its own place, all of one size."""

import torch

from anomalib_ssl.augmentations.pixels import read_window, to_unit, window_index


def write_window(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> None:
    """Write a window of each image, in place.

    Args:
        images: Shape (R, C, H, W).
        rows: Rows of the pixels, shape (R, h).
        columns: Their columns, (R, w).
        values: New pixels, shape (R, C, h, w).
    """
    index = window_index(rows, columns, images.shape[3]).expand(-1, images.shape[1], -1)
    images.view(*images.shape[:2], -1).scatter_(2, index, values.flatten(2))


def read_between(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Interpolate bilinearly between pixels; beyond the images' borders they are repeated.

    Args:
        images: Shape (R, C, H, W), floats in [0, 1] or uint8.
        rows: Vertical positions in pixels, shape (R, h); the first pixel's is 0.
        columns: Horizontal ones, (R, w).

    Returns:
        Values (R, C, h, w) in [0, 1].
    """
    height, width = images.shape[2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor(), columns.floor()
    down, across = (rows - top).view(len(rows), 1, -1, 1), (columns - left).view(len(rows), 1, 1, -1)
    upper, first = top.long(), left.long()
    lower, second = (upper + 1).clamp(max=height - 1), (first + 1).clamp(max=width - 1)

    def along(row: torch.Tensor) -> torch.Tensor:
        one, two = (to_unit(read_window(images, row, column)) for column in (first, second))
        return one.lerp(two, across.to(one.dtype))

    above, below = along(upper), along(lower)
    return above.lerp(below, down.to(above.dtype))
