# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Outlines of corrupted regions: ellipses, closed smooth curves and thin strokes, elastically deformed.

A region is described by its *level*, a function that is positive inside, falls through 0 at the outline and is about
the distance to it in pixels. The level of a union is the largest of the levels.
"""

import math
from collections.abc import Sequence

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.sampling import Device, Shape, integers, uniform

SHAPES = ("ellipse", "blob", "stroke")
"""Index of each kind of outline in the parameters."""

STROKE_WIDTH, STROKE_LENGTH = (0.01, 0.04), (0.2, 0.6)
"""Smallest and largest width and length of strokes, as shares of the image's shorter side."""

_BORDER = 0.1
"""Centres keep this share of the image's sides from its borders."""

_WAVES = (2, 6)
"""Waves around the outline of a blob, the last one left out. A single wave would only move it."""

ROUGHNESS = 0.5
"""Amplitudes of the waves of a blob sum to this share of its radius."""

_ANGLES = 8
"""Directions for which a blob's radius is tabulated, per pixel of the longer side: steps stay below 0.3 pixels."""


def sample_regions(
    shape: Shape,
    shapes: Sequence[str],
    regions: tuple[int, int],
    axes: tuple[float, float],
    device: Device = None,
    generator: torch.Generator | None = None,
    host: torch.Generator | None = None,
) -> Parameters:
    """Draw the outlines of a batch, every kind with equal chance.

    How many regions there are and of which kind is drawn on the host: it decides what is computed.

    Args:
        shape: Shape (B, C, H, W) of the images.
        shapes: Kinds to choose from, see :data:`SHAPES`.
        regions: Smallest and largest number of regions per image.
        axes: Smallest and largest semi-axis of ellipses and blobs, as a share of the shorter side.
        device: Device of the parameters.
        generator: Source of randomness on ``device``.
        host: Source of randomness on the host.

    Returns:
        On the host ``regions`` (B,), how many of the following K are used, and ``outline`` (B, K), an index into
        :data:`SHAPES`. Shape (B, K): ``center_y`` and ``center_x`` in pixels; ``angle`` in radians; ``half_length`` and
        ``half_width`` in pixels, the semi-axes; ``bend``, the sagitta of a stroke over its half length. Shape
        (B, K, 4): ``wave`` and ``phase``, amplitudes (0 for other kinds) and phases of a blob's
        radius.
    """
    batch, (height, width), most = shape[0], shape[-2:], regions[1]
    side, size = min(height, width), (batch, most)
    kinds = torch.tensor([SHAPES.index(name) for name in shapes], device="cpu")
    outline = kinds[integers(0, len(shapes) - 1, size, "cpu", host)]
    first, second, down, across, turn, bend = uniform(0, 1, (6, *size), device, generator)
    wave, phase = sample_waves(size, device, generator)
    is_stroke, is_blob = (
        (outline == SHAPES.index(name)).to(turn.device, non_blocking=True) for name in ("stroke", "blob")
    )

    def between(bounds: tuple[float, float], draw: torch.Tensor) -> torch.Tensor:
        return (draw * (bounds[1] - bounds[0]) + bounds[0]) * side

    return {
        "regions": integers(*regions, batch, "cpu", host),
        "outline": outline,
        "center_y": (down * (1 - 2 * _BORDER) + _BORDER) * height,
        "center_x": (across * (1 - 2 * _BORDER) + _BORDER) * width,
        "angle": turn * (2 * math.pi),
        "half_length": torch.where(is_stroke, between(STROKE_LENGTH, first) / 2, between(axes, first)),
        "half_width": torch.where(is_stroke, between(STROKE_WIDTH, second) / 2, between(axes, second)),
        "bend": bend * 0.6 - 0.3,
        "wave": wave * is_blob.unsqueeze(-1),
        "phase": phase,
    }


def sample_waves(
    size: tuple[int, ...], device: Device = None, generator: torch.Generator | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw the waves around blobs: amplitudes, as shares of the radius, and phases in radians, shape (*size, 4)."""
    amplitude, phase = uniform(0, 1, (2, *size, _WAVES[1] - _WAVES[0]), device, generator)
    # Many short waves would look ragged: the shorter, the flatter.
    amplitude = amplitude / _waves(amplitude.device)
    wave = amplitude / amplitude.sum(dim=-1, keepdim=True).clamp(min=1e-6)
    return ROUGHNESS * wave, phase * (2 * math.pi)


def _waves(device: torch.device) -> torch.Tensor:
    return torch.arange(*_WAVES, device=device)


def region_level(parameters: Parameters, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Evaluate the level of the union of a sample's regions.

    Args:
        parameters: What :func:`sample_regions` returned.
        y: Vertical position of each pixel in pixels, shape (B, H, W); the centre of the first pixel is 0.5.
        x: Horizontal position, likewise.

    Returns:
        Levels (B, H, W) in pixels, exact in sign and approximate in size.
    """
    level = torch.full_like(y, -math.inf)
    is_stroke = parameters["outline"] == SHAPES.index("stroke")
    for k in range(is_stroke.shape[1]):
        used = parameters["regions"] > k
        for kind, level_of in ((is_stroke[:, k], _stroke_level), (~is_stroke[:, k], closed_level)):
            # On the host by design, so that no region is computed in vain.
            rows = (used & kind).nonzero().flatten().to(y.device, non_blocking=True)
            region = {name: parameters[name][rows, k] for name in OUTLINE_PARAMETERS}
            level[rows] = level[rows].maximum(level_of(region, y[rows], x[rows]))
    return level


OUTLINE_PARAMETERS = ("center_y", "center_x", "angle", "half_length", "half_width", "bend", "wave", "phase")
"""Names of the parameters (B, K, ...) on the device."""


def _stroke_level(region: Parameters, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Level (R, H, W) of one stroke per sample: half its width less the distance to its curve, a parabola."""
    width = region["half_width"].view(-1, 1, 1)
    along, across = _own_axes(region, y, x)
    curve = torch.addcmul(across, along.clamp(-1, 1).square_(), region["bend"].view(-1, 1, 1), value=-1)
    beyond = along.abs_().sub_(1).clamp_(min=0)
    return width - torch.hypot(curve, beyond).mul_(region["half_length"].view(-1, 1, 1))


def closed_level(region: Parameters, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Level (R, H, W) of one ellipse or blob per sample: its radius less the distance to its centre."""
    stretch = (region["half_length"] / region["half_width"]).view(-1, 1, 1)
    along, across = _own_axes(region, y, x)
    across.mul_(stretch)
    table = _radius_table(region, _ANGLES * max(y.shape[1:]))
    count = table.shape[1]
    index = torch.atan2(across, along).add_(math.pi).mul_(count / (2 * math.pi)).long().clamp_(0, count - 1)
    radius = table.gather(1, index.flatten(1)).view_as(along)
    size = (region["half_length"] * region["half_width"]).sqrt().view(-1, 1, 1)
    return (radius - torch.hypot(across, along)).mul_(size)


def _own_axes(region: Parameters, y: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions along and across regions, in units of their half lengths."""
    cos, sin = (region["angle"].cos() / region["half_length"], region["angle"].sin() / region["half_length"])
    center_y, center_x = region["center_y"], region["center_x"]

    def turned(by_y: torch.Tensor, by_x: torch.Tensor) -> torch.Tensor:
        start = -(center_y * by_y + center_x * by_x)
        result = torch.addcmul(start.view(-1, 1, 1), y, by_y.view(-1, 1, 1))
        return result.addcmul_(x, by_x.view(-1, 1, 1))

    return turned(sin, cos), turned(cos, -sin)


def _radius_table(region: Parameters, count: int) -> torch.Tensor:
    """Tabulate the radius of blobs over that of the ellipse, in ``count`` directions from -pi to pi: (R, count)."""
    angle = torch.arange(count, device=region["wave"].device) * (2 * math.pi / count) - math.pi
    waves = (angle.unsqueeze(1) * _waves(angle.device) + region["phase"].unsqueeze(1)).cos_()
    return 1 + (waves * region["wave"].unsqueeze(1)).sum(dim=2)
