# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Smooth random fields, for what deforms and for what looks like clouds."""

import math

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.sampling import Device, Shape, uniform

_MARGIN = 3
"""Knots beyond each border, so that a field is as lively there as elsewhere."""


SMOOTHING = (0.04, 0.1)
"""Smallest and largest standard deviation of the Gaussian that smooths, as a share of the image's shorter side."""


def sample_knots(
    shape: Shape,
    channels: int,
    smallest_sigma: float,
    device: Device = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw the white noise that :func:`smooth_field` smooths: little of it, since a smooth field needs few numbers.

    Args:
        shape: Shape (B, C, H, W) of the images.
        channels: Number of fields per sample.
        smallest_sigma: Least smoothing to come, in pixels. Knots are no further apart than this.
        device: Device of the noise.
        generator: Source of randomness on ``device``.

    Returns:
        Standard normal values (B, channels, rows, columns) at knots that cover the image and a margin around it.
    """
    rows, columns = (math.ceil(side / smallest_sigma) + 2 * _MARGIN + 1 for side in shape[-2:])
    return torch.randn(shape[0], channels, rows, columns, device=device, generator=generator)


def smooth_field(knots: torch.Tensor, sigma: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Smooth noise with a Gaussian and evaluate it at every pixel.

    Kernel and interpolation in one: the field is a sum of Gaussians around the knots, computed along rows and columns
    in turn. It is scaled to a variance of 1 at every pixel.

    Args:
        knots: What :func:`sample_knots` returned, shape (B, N, rows, columns).
        sigma: Standard deviation of the Gaussian in pixels, shape (B,).
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Fields (B, N, height, width).
    """
    down = _kernel(sigma, height, knots.shape[2]).unsqueeze(1)
    across = _kernel(sigma, width, knots.shape[3]).unsqueeze(1)
    # In full precision, since a displacement is added to coordinates.
    with torch.autocast(knots.device.type, enabled=False):
        return down @ (knots @ across.mT)


def _kernel(sigma: torch.Tensor, side: int, count: int) -> torch.Tensor:
    """Weights (B, side, count) of the knots at each pixel; the squares of a row sum to 1."""
    spacing = side / (count - 1 - 2 * _MARGIN)
    pixels = torch.arange(side, device=sigma.device) + 0.5
    knots = (torch.arange(count, device=sigma.device) - _MARGIN) * spacing
    distance = (pixels.unsqueeze(1) - knots) / sigma.view(-1, 1, 1)
    weights = distance.square_().mul_(-0.5).exp_()
    return weights / weights.norm(dim=2, keepdim=True)


def sample_displacement(
    shape: Shape,
    displacement: tuple[float, float],
    device: Device = None,
    generator: torch.Generator | None = None,
) -> Parameters:
    """Draw an elastic displacement.

    Args:
        shape: Shape (B, C, H, W) of the images.
        displacement: Smallest and largest amplitude, as a share of the shorter side: 95 % of the displacements along
            either axis are smaller.
        device: Device of the parameters.
        generator: Source of randomness on ``device``.

    Returns:
        ``knots`` (B, 2, rows, columns), ``sigma`` (B,) and ``amplitude`` (B,), in pixels.
    """
    side = min(shape[-2:])
    return {
        "knots": sample_knots(shape, 2, SMOOTHING[0] * side, device, generator),
        "sigma": uniform(*SMOOTHING, shape[0], device, generator) * side,
        "amplitude": uniform(*displacement, shape[0], device, generator) * side,
    }


def displaced_coordinates(parameters: Parameters, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the displaced pixels of an image.

    Args:
        parameters: What :func:`sample_displacement` returned.
        height: Height of the image in pixels.
        width: Width of the image in pixels.

    Returns:
        Vertical and horizontal positions (B, height, width) in pixels; undisplaced, the first pixel's are 0.5.
    """
    # The amplitude is two standard deviations.
    knots = parameters["knots"] * (parameters["amplitude"] / 2).view(-1, 1, 1, 1)
    y, x = smooth_field(knots, parameters["sigma"], height, width).unbind(1)
    y = y + (torch.arange(height, device=y.device) + 0.5).unsqueeze(1)
    return y, x + (torch.arange(width, device=x.device) + 0.5)
