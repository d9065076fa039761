# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is done to a rectangle: rotation, colour jitter, permutation of its cells, loss of its colours."""

import math

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.bilinear import sample_bilinear
from anomalib_ssl.augmentations.color_jitter import jitter_pixels, sample_color_jitter
from anomalib_ssl.augmentations.local_augmentation.windows import Window
from anomalib_ssl.augmentations.sampling import Device, uniform

OPERATIONS = ("rotation", "jitter", "permutation", "grayscale")
"""Names of the operations, in the order of their weights."""

_LUMA = (0.299, 0.587, 0.114)
"""Weights of ITU-R BT.601."""

LEAST_ANGLE = 30.0
"""Rotations by less than so many degrees, either way, do not occur."""


def sample_operations(
    names: tuple[str, ...],
    batch_size: int,
    strengths: tuple[float, float, float, float],
    grid: int,
    device: Device = None,
    generator: torch.Generator | None = None,
) -> Parameters:
    """Draw what the operations need.

    Args:
        names: The operations in use.
        batch_size: Number of images B.
        strengths: Of the jitter's brightness, contrast, saturation and hue.
        grid: Cells along each side of the rectangle.
        device: Device of the parameters.
        generator: Source of randomness.

    Returns:
        ``angle`` (B,) in radians, counter-clockwise; ``cells`` (B, grid**2), which cell goes where, on a random cycle
        through all of them, so that none stays; the strengths (B,) of the jitter and, on the host, their ``order``
        (1, 4).
    """
    parameters: Parameters = {}
    if "rotation" in names:
        angle = uniform(LEAST_ANGLE, 360 - LEAST_ANGLE, batch_size, device, generator)
        parameters["angle"] = angle * (math.pi / 180)
    if "jitter" in names:
        parameters |= sample_color_jitter(batch_size, strengths, device, generator)
    if "permutation" in names:
        cycle = uniform(0, 1, (batch_size, grid**2), device, generator).argsort(dim=1)
        parameters["cells"] = torch.empty_like(cycle).scatter_(1, cycle, cycle.roll(-1, dims=1))
    return parameters


def apply_operation(name: str, pixels: torch.Tensor, window: Window, parameters: Parameters) -> torch.Tensor:
    """Change the rectangle of each window by one operation.

    Args:
        name: One of :data:`OPERATIONS`.
        pixels: Pixels of the windows (B, C, n * m), floats in [0, 1].
        window: The windows.
        parameters: What :func:`sample_operations` returned.

    Returns:
        New pixels (B, C, n * m); those outside of the rectangle are unspecified.
    """
    if name == "rotation":
        return rotate(pixels, window, parameters["angle"])
    if name == "jitter":
        return jitter_pixels(pixels, parameters, window.inside.squeeze(1))
    if name == "permutation":
        return permute_cells(pixels, window, parameters["cells"])
    return to_grayscale(pixels)


def rotate(pixels: torch.Tensor, window: Window, angle: torch.Tensor) -> torch.Tensor:
    """Rotate each rectangle about its centre, bilinearly; where its turned self does not reach, it stays as it was.

    Args:
        pixels: Shape (B, C, n * m).
        window: The windows.
        angle: In radians, counter-clockwise, shape (B,).

    Returns:
        Shape (B, C, n * m).
    """
    sides = window.shape
    cos, sin = (value.view(-1, 1, 1).to(pixels.dtype) for value in (angle.cos(), angle.sin()))
    centers = [
        (first + side / 2).view(-1, 1, 1).to(pixels.dtype)
        for first, side in ((window.top, window.height), (window.left, window.width))
    ]
    down, right = (torch.arange(side, device=pixels.device, dtype=pixels.dtype) + 0.5 for side in sides)
    y, x = down.view(1, -1, 1) - centers[0], right - centers[1]
    from_y, from_x = centers[0] + cos * y + sin * x, centers[1] + cos * x - sin * y
    grid = torch.stack([from_x * (2 / sides[1]) - 1, from_y * (2 / sides[0]) - 1], dim=-1)
    # A further channel tells how far the turned rectangle covers a pixel.
    source = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1).mul_(window.inside).unflatten(2, sides)
    turned = sample_bilinear(source, grid, "zeros").flatten(2)
    return torch.addcmul(turned[:, :-1], 1 - turned[:, -1:], pixels)


def permute_cells(pixels: torch.Tensor, window: Window, cells: torch.Tensor) -> torch.Tensor:
    """Cut each rectangle into equal cells and exchange them; rows and columns that are left over stay as they were.

    Args:
        pixels: Shape (B, C, n * m).
        window: The windows.
        cells: For each of g x g cells the one whose content it gets, shape (B, g * g).

    Returns:
        Shape (B, C, n * m).
    """
    count = math.isqrt(cells.shape[1])
    # One more row and one more column of cells, for what does not move.
    steps = torch.zeros(len(cells), count + 1, count + 1, dtype=torch.long, device=cells.device)
    places, spans = [], []
    for offset, side in zip(window.offsets, (window.height, window.width), strict=True):
        side = side.view(-1, 1, 1)  # noqa: PLW2901
        span = side.div(count, rounding_mode="floor").clamp(min=1)
        place = offset.div(span, rounding_mode="floor")
        places.append(place.masked_fill((place < 0) | (place >= count) | (side < count), count))
        spans.append(span)
    own = torch.arange(count**2, device=cells.device)
    down, right = cells.div(count, rounding_mode="floor") - own.div(count, rounding_mode="floor"), cells % count
    step = down * (spans[0] * window.shape[1]).flatten(1) + (right - own % count) * spans[1].flatten(1)
    steps[:, :count, :count] = step.unflatten(1, (count, count))
    cell = (places[0] * (count + 1) + places[1]).flatten(1)
    index = steps.flatten(1).gather(1, cell).add_(torch.arange(cell.shape[1], device=cells.device))
    return pixels.gather(2, index.unsqueeze(1).expand(-1, pixels.shape[1], -1))


def to_grayscale(pixels: torch.Tensor) -> torch.Tensor:
    """Replace the colours of pixels (B, C, L) by their brightness; pixels without three channels stay."""
    if pixels.shape[1] != 3:
        return pixels
    red, green, blue = pixels.unbind(dim=1)
    luma = (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
    return luma.unsqueeze(1).expand_as(pixels)
