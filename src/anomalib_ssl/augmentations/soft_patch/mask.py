# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A patch with a soft edge: a mask through which gradients reach its area, aspect and angle."""

import math

import torch

PROFILES = ("gaussian", "box")
"""Names of how a patch fades: from its centre on, or at its edge."""

SOFTNESS = 0.1
"""Variance of the Gaussian profile in squared sides, and width of the box profile's edge in half sides."""


def soft_patch_mask(
    size: tuple[int, int],
    area: torch.Tensor,
    aspect: torch.Tensor,
    angle: torch.Tensor,
    center: tuple[torch.Tensor, torch.Tensor],
    profile: str = "gaussian",
) -> torch.Tensor:
    """Draw one soft rectangle per sample.

    Both profiles follow the smooth CutOut in the public code of DSV, by the same first author as ST-SSAD (Yoo et al.,
    https://arxiv.org/abs/2307.06534). The angle is this package's: distances are taken in pixels and turned before they
    are divided by the sides. With ``u`` and ``v`` the distances from the centre along the patch's own axes, in units of
    its width and height, the mask is ``exp(-(u^2 + v^2) / 0.2)``, or for the box
    ``sigmoid(-(max(|2u|, |2v|) - 1) / 0.1)``. At half its depth the Gaussian is 0.745 sides wide; the box's mean is
    1.033 times ``area``.

    Args:
        size: Height H and width W of the images in pixels.
        area: Product of the patch's sides as a share of the image's area, above 0. Shape (B,), floating point.
        aspect: The patch's width / height, above 0. Shape (B,).
        angle: Angle in radians by which the patch is turned counter-clockwise. Shape (B,).
        center: Row and column of the centre as shares of H and W, shape (B,) each; it may lie outside of the image.
        profile: ``gaussian`` or ``box``.

    Returns:
        Masks in [0, 1], shape (B, 1, H, W), of the parameters' data type.

    Example:
        >>> import torch
        >>> half = torch.tensor([0.5])
        >>> mask = soft_patch_mask((64, 64), torch.tensor([0.1]), torch.ones(1), torch.zeros(1), (half, half), "box")
        >>> round(float(mask.mean()), 3)
        0.103
    """
    height, width = size
    down = torch.arange(0.5, height, dtype=area.dtype, device=area.device) - center[0].unsqueeze(1) * height
    right = torch.arange(0.5, width, dtype=area.dtype, device=area.device) - center[1].unsqueeze(1) * width
    down, right = down.unsqueeze(2), right.unsqueeze(1)
    # Rows are counted downwards, so that a counter-clockwise angle takes the width's axis from right to up.
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    length = math.sqrt(height * width)
    u = (right * cos - down * sin) / (length * (area * aspect).sqrt()).view(-1, 1, 1)
    v = (right * sin + down * cos) / (length * (area / aspect).sqrt()).view(-1, 1, 1)
    if profile == "gaussian":
        return torch.exp(-(u.square() + v.square()) / (2 * SOFTNESS)).unsqueeze(1)
    return torch.sigmoid((1 - 2 * torch.maximum(u.abs(), v.abs())) / SOFTNESS).unsqueeze(1)
