# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From the level of a region (see ``shapes.py``) to how strongly each pixel is blended."""

import math

import torch

_LEAST_SLOPE = 0.3
"""Slopes of a level below this stem from its ridges and tips, not from deformed coordinates."""

_LEAST_WEIGHT = 0.25
"""Weight at which a feathered edge starts: a pixel counted as corrupted is changed by more than a trace."""


def in_pixels(level: torch.Tensor) -> torch.Tensor:
    """Divide levels (B, H, W) by their slopes: the distance to the outline in pixels, to first order.

    Where coordinates are deformed, a level rises faster or slower than by 1 per pixel.
    """
    down, right = torch.gradient(level, dim=(1, 2))
    return level / torch.hypot(down, right).clamp_(min=_LEAST_SLOPE)


def fit_area(level: torch.Tensor, area: tuple[float, float]) -> torch.Tensor:
    """Grow or shrink regions evenly where their area is outside its limits.

    Args:
        level: Shape (B, H, W), in pixels.
        area: Smallest and largest share of the pixels at which the level shall be positive. Always a pixel at least.

    Returns:
        Levels (B, H, W), shifted where needed.
    """
    flat = level.flatten(1)
    pixels = flat.shape[1]
    smallest = max(math.ceil(area[0] * pixels), 1)
    largest = max(math.floor(area[1] * pixels), smallest)
    outline = torch.zeros_like(flat[:, :1])
    if largest < pixels:
        outline = outline.maximum(_largest(flat, largest + 1))
    # Of equal pixels all are inside or none: rather too many than too few.
    outline = outline.minimum(_largest(flat, smallest).nextafter(torch.full_like(outline, -math.inf)))
    return level - outline.unsqueeze(2)


def _largest(values: torch.Tensor, place: int) -> torch.Tensor:
    """The value at a place, from 1, of each row (B, N) in descending order: shape (B, 1)."""
    # torch.kthvalue has no deterministic form on an accelerator.
    return values.topk(place, dim=1, sorted=False).values.amin(dim=1, keepdim=True)


def feathered(level: torch.Tensor, feather: torch.Tensor) -> torch.Tensor:
    """Blend weights: 0 outside, 1 inside, and between them a ramp along the inner side of the outline.

    Args:
        level: Shape (B, H, W), in pixels.
        feather: Width of the ramp in pixels, shape (B,). 0 makes a hard edge.

    Returns:
        Weights (B, 1, H, W), at least 0.25 wherever they are not 0.
    """
    # So small that it makes a hard edge of any level that float32 tells from 0.
    ramp = (level / feather.clamp(min=1e-30).view(-1, 1, 1)).clamp_(_LEAST_WEIGHT, 1)
    return (ramp * (level > 0)).unsqueeze(1)
