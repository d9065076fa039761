# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Flips, turns, small rotations and shifts: what may change in an image that stays normal."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.bilinear import sample_bilinear
from anomalib_ssl.augmentations.pixels import (
    check_samples,
    from_unit,
    full_masks,
    gather_pixels,
    is_channels_last,
    to_unit,
)
from anomalib_ssl.augmentations.sampling import Device, Shape, integers, uniform
from anomalib_ssl.checks import check_choices, check_flag, check_number

FLIPS = ("horizontal", "vertical")
"""Names of the flips: left and right exchanged, top and bottom exchanged."""


def flip_and_turn(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Flip images, then turn them by multiples of 90 degrees, moving pixels without changing them.

    Args:
        images: Shape (B, C, H, W), of any data type; square if they are turned.
        parameters: Shape (B,) each, all optional: boolean ``flip_x`` and ``flip_y``, left and right or top and bottom
            exchanged; ``turns``, quarter turns counter-clockwise, in {0, 1, 2, 3}.

    Returns:
        The images (B, C, H, W), equal to ``torch.flip`` followed by ``torch.rot90``, of the same memory format; the
        images themselves where there is nothing to do.
    """
    if not {"flip_x", "flip_y", "turns"} & parameters.keys():
        return images
    height, width = images.shape[-2:]

    def of(name: str) -> torch.Tensor:
        value = parameters.get(name)
        return torch.zeros(1, 1, 1, device=images.device) if value is None else value.to(images.device).view(-1, 1, 1)

    turns = of("turns").long()
    row = torch.arange(height, device=images.device).view(-1, 1).expand(len(images), height, width)
    col = torch.arange(width, device=images.device).expand_as(row)
    # A quarter turn reads column by column, and one of the two directions backwards.
    row, col = torch.where(turns % 2 == 1, col, row), torch.where(turns % 2 == 1, row, col)
    backward_y, backward_x = of("flip_y").bool() ^ (turns >= 2), of("flip_x").bool() ^ ((turns == 1) | (turns == 2))
    row = torch.where(backward_y, height - 1 - row, row)
    col = torch.where(backward_x, width - 1 - col, col)
    return gather_pixels(images, (row * width + col).flatten(1).unsqueeze(1)).view(images.shape)


def rotate_and_shift(
    images: torch.Tensor,
    parameters: Parameters,
    mode: str = "bilinear",
) -> torch.Tensor:
    """Rotate images about their centres, then shift them, with interpolation; the outermost pixels are repeated.

    Args:
        images: Shape (B, C, H, W), floats in [0, 1], uint8 or boolean.
        parameters: Shape (B,) each: ``angle`` in radians, counter-clockwise; ``shift_y`` and ``shift_x`` in pixels, by
            which the content moves down and right. Nothing for no change.
        mode: ``bilinear`` or ``nearest``.

    Returns:
        The moved images (B, C, H, W), of the images' data type and memory format; the images themselves where the
        parameters are empty.
    """
    if "angle" not in parameters:
        return images
    check_samples(parameters["angle"], images)
    height, width = images.shape[-2:]
    angle, down, right = (parameters[name].to(images.device) for name in ("angle", "shift_y", "shift_x"))
    cos, sin = angle.cos(), angle.sin()
    # Maps a pixel of the result to where it comes from, in grid_sample's units of half a side.
    from_x, from_y = (down * sin - right * cos) * (2 / width), -(right * sin + down * cos) * (2 / height)
    matrix = torch.stack(
        [cos, -sin * (height / width), from_x, sin * (width / height), cos, from_y],
        dim=1,
    )
    dtype = torch.float32 if images.dtype == torch.bool else images.dtype
    pixels = to_unit(images.to(dtype)).contiguous()
    # In full precision, since these are coordinates.
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(matrix.view(-1, 2, 3), list(images.shape), align_corners=False).to(pixels.dtype)
    if mode == "nearest":
        moved = F.grid_sample(pixels, grid, mode, "border", align_corners=False)
    else:
        moved = sample_bilinear(pixels, grid, "border")
    layout = torch.channels_last if is_channels_last(images) else torch.contiguous_format
    return from_unit(moved, images.dtype).contiguous(memory_format=layout)


@dataclass(frozen=True)
class Symmetries(Augmentation):
    """Random flips, quarter turns, small rotations and shifts, each off unless given.

    For what leaves a normal image normal, before it is corrupted: textures may be flipped and turned, an object whose
    orientation carries meaning may not. Which symmetries hold is for the user to say; the ranges are the user's too.
    Flips and quarter turns move pixels without changing them. Rotations and shifts interpolate bilinearly, together in
    one step and after the flips and turns; the outermost pixels are repeated where that uncovers places.

    Args:
        flips: ``horizontal`` (left and right exchanged), ``vertical``, both or none; each with a chance of one half.
        quarter_turns: Whether square images are turned by 0, 90, 180 or 270 degrees with equal chance.
        rotation: Rotations are drawn from [-rotation, rotation] degrees. In [0, 180].
        shift: Shifts along either axis are drawn from [-shift, shift], as a share of the shorter side. In [0, 0.5].

    Raises:
        ValueError: If an argument is outside its limits, or at the first image that is not square with
            ``quarter_turns``.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> symmetries = Symmetries(flips=["horizontal"])
        >>> parameters = symmetries.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> flipped, _ = symmetries.apply(images, parameters)
        >>> torch.equal(flipped, torch.where(parameters["flip_x"].view(-1, 1, 1, 1), images.flip(-1), images))
        True
    """

    moves: ClassVar[bool] = True

    flips: Sequence[Literal["horizontal", "vertical"]] = ()
    quarter_turns: bool = False
    rotation: float = 0.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_choices("flips", self.flips, FLIPS, least=0)
        check_flag("quarter_turns", self.quarter_turns)
        check_number("rotation", self.rotation, 0, 180)
        check_number("shift", self.shift, 0, 0.5)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw what is on: ``flip_x``, ``flip_y``, ``turns``; ``angle``, ``shift_y`` and ``shift_x``, all (B,).

        Raises:
            ValueError: If images that are not square are to be turned by 90 degrees.
        """
        batch, (height, width) = shape[0], shape[-2:]
        parameters: Parameters = {}
        for name, key in (("horizontal", "flip_x"), ("vertical", "flip_y")):
            if name in self.flips:
                parameters[key] = uniform(0, 1, batch, device, generator) < 0.5
        if self.quarter_turns:
            if height != width:
                msg = f"quarter_turns needs square images, got {height}x{width} pixels."
                raise ValueError(msg)
            parameters["turns"] = integers(0, 3, batch, device, generator)
        if self.rotation > 0 or self.shift > 0:
            angle, down, right = uniform(-1, 1, (3, batch), device, generator)
            largest = self.shift * min(height, width)
            parameters |= {
                "angle": angle * math.radians(self.rotation),
                "shift_y": down * largest,
                "shift_x": right * largest,
            }
        return parameters

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Move the content of ``images`` (B, C, H, W); every pixel counts as written."""
        return rotate_and_shift(flip_and_turn(images, parameters), parameters), full_masks(images, True)

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Move masks (B, 1, H, W) together with their images; values are kept, not interpolated."""
        return rotate_and_shift(flip_and_turn(masks, parameters), parameters, mode="nearest")
