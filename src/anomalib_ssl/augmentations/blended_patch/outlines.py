# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Outlines of patches: rectangles, ellipses and smooth blobs within them."""

from collections.abc import Sequence

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.corruption.shapes import ROUGHNESS, closed_level

OUTLINES = ("rectangle", "ellipse", "blob")
"""Index of each kind of outline in the parameters."""


def outline_level(
    patch: Parameters, rows: torch.Tensor, columns: torch.Tensor, outlines: Sequence[str] = OUTLINES
) -> torch.Tensor:
    """Distance to the outline of a patch, positive inside, exact in sign and approximate in size.

    Args:
        patch: ``top``, ``left``, ``height`` and ``width`` in pixels, shape (R,); ``outline``, an index into
            :data:`OUTLINES`, (R,); ``wave`` and ``phase`` of blobs, (R, 4).
        rows: Rows of the pixels in question, shape (R, h).
        columns: Their columns, (R, w).
        outlines: Kinds that occur.

    Returns:
        Levels (R, 1, h, w) in pixels.
    """
    half_height, half_width = patch["height"] / 2, patch["width"] / 2
    center_y, center_x = patch["top"] + half_height, patch["left"] + half_width
    y, x = rows + 0.5, columns + 0.5
    from_sides = half_height.unsqueeze(1) - (y - center_y.unsqueeze(1)).abs()
    from_ends = half_width.unsqueeze(1) - (x - center_x.unsqueeze(1)).abs()
    rectangle = torch.minimum(from_sides.unsqueeze(2), from_ends.unsqueeze(1))
    if tuple(outlines) == ("rectangle",):
        return rectangle.unsqueeze(1)
    is_blob = patch["outline"] == OUTLINES.index("blob")
    # The waves of a blob reach beyond its ellipse: it is drawn smaller, so that it stays within the rectangle.
    shrink = torch.where(is_blob, 1 / (1 + ROUGHNESS), 1.0)
    region = {
        "center_y": center_y,
        "center_x": center_x,
        "angle": torch.zeros_like(center_y),
        "half_length": half_width * shrink,
        "half_width": half_height * shrink,
        "wave": patch["wave"] * is_blob.unsqueeze(1),
        "phase": patch["phase"],
    }
    grid_y, grid_x = torch.broadcast_tensors(y.unsqueeze(2), x.unsqueeze(1))
    curved = closed_level(region, grid_y, grid_x)
    is_rectangle = (patch["outline"] == OUTLINES.index("rectangle")).view(-1, 1, 1)
    return torch.where(is_rectangle, rectangle, torch.minimum(curved, rectangle)).unsqueeze(1)
