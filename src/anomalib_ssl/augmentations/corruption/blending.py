# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Blending corrupted regions into images, visibly."""

import torch

_CONTRAST = 0.2
"""Least distance of a substitute colour from the mean of the region, in each channel."""


def blend(
    images: torch.Tensor,
    fills: torch.Tensor,
    weights: torch.Tensor,
    opacity: torch.Tensor,
    color: torch.Tensor,
    min_change: torch.Tensor,
) -> torch.Tensor:
    """Blend fills into images so that the mean absolute change inside each mask is at least ``min_change``.

    Where the change is too small, the opacity is raised; where even full opacity would not do, a contrasting flat
    colour takes the fill's place.

    Args:
        images: Shape (B, C, H, W), values in [0, 1].
        fills: What to blend in, likewise.
        weights: Shape (B, 1, H, W), values in [0, 1]. The mask is where they are not 0.
        opacity: Shape (B,), values in [0, 1].
        color: Shape (B, C), values in [0, 1]: which of the contrasting colours.
        min_change: Shape (B,).

    Returns:
        The blended images (B, C, H, W).
    """
    pixels = (weights > 0).sum(dim=(1, 2, 3)).clamp(min=1)
    total = weights.sum(dim=(1, 2, 3))
    change = ((fills - images).abs() * weights).sum(dim=(2, 3)).mean(dim=1) / pixels
    mean = (images * weights).sum(dim=(2, 3)) / total.clamp(min=1e-6).unsqueeze(1)
    contrasting = _contrasting(mean, color)
    # No more than the change that the colour makes, and exact where the region is flat.
    flat_change = (contrasting - mean).abs().mean(dim=1) * (total / pixels)

    replaced = change < min_change
    fills = torch.where(replaced.view(-1, 1, 1, 1), contrasting.unsqueeze(2).unsqueeze(3).to(fills.dtype), fills)
    change = torch.where(replaced, flat_change, change)
    # Slightly more than needed, for the rounding of the sums.
    least = (1.001 * min_change / change.clamp(min=1e-6)).clamp(max=1)
    opacity = torch.where(opacity < least, least + (1 - least) * opacity, opacity)
    return torch.lerp(images, fills, (weights * opacity.view(-1, 1, 1, 1)).to(images.dtype)).clamp(0, 1)


def _contrasting(mean: torch.Tensor, draw: torch.Tensor) -> torch.Tensor:
    """Map draws from [0, 1) to values at least 0.2 from the mean, on the side where there are more of them."""
    brighter = mean + _CONTRAST + draw * (1 - _CONTRAST - mean)
    return torch.where(mean < 0.5, brighter, draw * (mean - _CONTRAST))
