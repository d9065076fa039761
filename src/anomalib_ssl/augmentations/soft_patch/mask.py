# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A patch with a soft edge: a mask through which gradients reach its area, aspect and angle."""

import math

import torch

from anomalib_ssl.augmentations.base import Parameters

GEOMETRY = ("area", "aspect", "angle", "center_y", "center_x")
"""Names of the parameters that decide a mask."""

SOFTNESS = 0.1
"""Variance of the Gaussian profile in squared sides, and width of the box profile's edge in half sides."""


def soft_patch_mask(parameters: Parameters, size: tuple[int, int], profile: str) -> torch.Tensor:
    """Draw one soft rectangle per sample.

    Both profiles follow the smooth CutOut in the public code of DSV, by the same first author as ST-SSAD (Yoo et al.,
    https://arxiv.org/abs/2307.06534). The angle is this package's: distances are taken in pixels and turned before they
    are divided by the sides. With ``u`` and ``v`` the distances from the centre along the patch's own axes, in units of
    its width and height, the mask is ``exp(-(u^2 + v^2) / 0.2)``, or for the box
    ``sigmoid(-(max(|2u|, |2v|) - 1) / 0.1)``. At half its depth the Gaussian is 0.745 sides wide; the box's mean is
    1.033 times ``area``.

    Args:
        parameters: Floating point, shape (B,) each: ``area``, the product of the patch's sides as a share of the
            image's area, above 0; ``aspect``, the patch's width / height, above 0; ``angle`` in radians by which it is
            turned counter-clockwise; ``center_y`` and ``center_x`` as shares of H and W, inside the image or not.
        size: Height H and width W of the images in pixels.
        profile: ``gaussian`` or ``box``.

    Returns:
        Masks in [0, 1], shape (B, 1, H, W), of the parameters' data type.

    Example:
        >>> import torch
        >>> patch = {"area": 0.1, "aspect": 1.0, "angle": 0.0, "center_y": 0.5, "center_x": 0.5}
        >>> patch = {name: torch.tensor([value]) for name, value in patch.items()}
        >>> round(float(soft_patch_mask(patch, (64, 64), "box").mean()), 3)
        0.103
    """
    height, width = size
    area, aspect, angle, center_y, center_x = (parameters[name] for name in GEOMETRY)
    down = torch.arange(0.5, height, dtype=area.dtype, device=area.device) - center_y.unsqueeze(1) * height
    right = torch.arange(0.5, width, dtype=area.dtype, device=area.device) - center_x.unsqueeze(1) * width
    down, right = down.unsqueeze(2), right.unsqueeze(1)
    # Rows are counted downwards, so that a counter-clockwise angle takes the width's axis from right to up.
    cos, sin = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    length = math.sqrt(height * width)
    u = (right * cos - down * sin) / (length * (area * aspect).sqrt()).view(-1, 1, 1)
    v = (right * sin + down * cos) / (length * (area / aspect).sqrt()).view(-1, 1, 1)
    if profile == "gaussian":
        return torch.exp(-(u.square() + v.square()) / (2 * SOFTNESS)).unsqueeze(1)
    return torch.sigmoid((1 - 2 * torch.maximum(u.abs(), v.abs())) / SOFTNESS).unsqueeze(1)
