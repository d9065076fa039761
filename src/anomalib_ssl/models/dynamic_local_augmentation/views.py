# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Views of normal images that shall have equal features, and where in the image each of their places lies."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from kornia.filters import gaussian_blur2d
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import RandomShift, color_jitter, shift_images
from anomalib_ssl.augmentations.color_jitter import sample_color_jitter
from anomalib_ssl.augmentations.pixels import gather_pixels
from anomalib_ssl.augmentations.random import host_generator, integers, uniform
from anomalib_ssl.checks import check_choice, check_number

PRESETS = ("mild", "simsiam")
"""Names of the kinds of views."""

_NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


class View(NamedTuple):
    """One view of each image.

    Attributes:
        images: Shape (B, 3, h, w), values in [0, 1].
        top: First row in the image, in pixels, shape (B,).
        left: First column, likewise.
        height: Height of the part of the image that is shown, in pixels, shape (B,).
        width: Its width, likewise; negative where left and right are exchanged, ``left`` being the right end then.
    """

    images: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


@dataclass(frozen=True)
class GlobalViews:
    """Make views of images by random crops, colour changes and blur.

    What the paper's views are is not known. ``mild``, this package's choice, keeps features aware of position and
    colour, which is what scores rest on: a crop of fixed size, weak jitter and hardly any blur. ``simsiam`` has the
    views of SimSiam's code (Chen and He, CVPR 2021): crops of 20 to 100 % of the area, strong jitter, loss of colour,
    blur and flips.

    Args:
        preset: ``mild`` or ``simsiam``.
        crop: Height and width of a view as a share of the image's, in [0.25, 1]; rounded to multiples of 8 pixels.
        shift: Translation before the crop of ``mild``, with mirrored borders.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    preset: Literal["mild", "simsiam"] = "mild"
    crop: float = 0.875
    shift: RandomShift = RandomShift(0)  # noqa: RUF009  # frozen

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("global_views", self.preset, PRESETS)
        check_number("view_crop", self.crop, 0.25, 1)

    def __call__(self, images: torch.Tensor, generator: torch.Generator | None = None) -> View:
        """Make one view of each image.

        Args:
            images: Shape (B, 3, H, W), floats in [0, 1].
            generator: Source of randomness on the images' device.
        """
        size = self.view_size((images.shape[-2], images.shape[-1]))
        if self.preset == "mild":
            view = self._cropped(images, size, generator)
            return view._replace(images=_recolored(view.images, (0.1, 0.1, 0.1, 0.02), 0.0, (0.1, 0.5), 0.2, generator))
        view = _resized(images, size, generator)
        return view._replace(images=_recolored(view.images, (0.4, 0.4, 0.4, 0.1), 0.2, (0.1, 2.0), 0.5, generator))

    def view_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of views of images of a height and width."""
        if self.crop == 1:
            return size
        height, width = (min(max(8 * round(self.crop * side / 8), 8), side) for side in size)
        return height, width

    def _cropped(self, images: torch.Tensor, size: tuple[int, int], generator: torch.Generator | None) -> View:
        batch, device = len(images), images.device
        shift = self.shift.sample(images.shape, device, generator)
        images = shift_images(images, shift)
        top, left = (
            integers(0, whole - side, batch, device, generator)
            for whole, side in zip(images.shape[-2:], size, strict=True)
        )
        rows, cols = (
            corner.unsqueeze(1) + torch.arange(side, device=device)
            for corner, side in zip((top, left), size, strict=True)
        )
        index = (rows.unsqueeze(2) * images.shape[-1] + cols.unsqueeze(1)).flatten(1).unsqueeze(1)
        crops = gather_pixels(images, index).reshape(batch, images.shape[1], *size)
        height, width = (torch.full((batch,), float(side), device=device) for side in size)
        moved = [corner + shift.get(name, 0) for corner, name in ((top, "shift_y"), (left, "shift_x"))]
        return View(crops, moved[0].float(), moved[1].float(), height, width)


def _resized(images: torch.Tensor, size: tuple[int, int], generator: torch.Generator | None) -> View:
    """Parts of 20 to 100 % of the area, of aspects from 3/4 to 4/3, brought to one size; half of them flipped."""
    batch, device, (rows, cols) = len(images), images.device, images.shape[-2:]
    area, aspect, down, right, flip = uniform(0, 1, (5, batch), device, generator)
    area, aspect = (0.2 + 0.8 * area) * (rows * cols), ((2 * aspect - 1) * math.log(4 / 3)).exp()
    height, width = (area / aspect).sqrt().clamp(max=rows), (area * aspect).sqrt().clamp(max=cols)
    top, left = down * (rows - height), right * (cols - width)
    flipped = flip < 0.5
    left, width = torch.where(flipped, left + width, left), torch.where(flipped, -width, width)
    y, x = ((torch.arange(side, device=device) + 0.5) / side for side in size)
    y, x = top.unsqueeze(1) + height.unsqueeze(1) * y, left.unsqueeze(1) + width.unsqueeze(1) * x
    grid = torch.stack(
        [
            (x * (2 / cols) - 1).unsqueeze(1).expand(-1, size[0], -1),
            (y * (2 / rows) - 1).unsqueeze(2).expand(-1, -1, size[1]),
        ],
        dim=-1,
    )
    parts = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return View(parts, top, left, height, width)


def _recolored(
    images: torch.Tensor,
    strengths: tuple[float, float, float, float],
    gray: float,
    sigma: tuple[float, float],
    blur: float,
    generator: torch.Generator | None,
) -> torch.Tensor:
    """Jitter colours with a chance of 0.8, remove them with a chance of ``gray``, blur with a chance of ``blur``."""
    batch, device = len(images), images.device
    parameters = sample_color_jitter(batch, strengths, device, generator)
    chosen = uniform(0, 1, batch, device, generator) < 0.8
    for name, neutral in _NEUTRAL.items():
        parameters[name] = torch.where(chosen, parameters[name], neutral)
    images = color_jitter(images, parameters)
    if gray > 0:
        colorless = color_jitter(images, {"saturation": images.new_zeros(batch), "order": parameters["order"]})
        drained = uniform(0, 1, (batch, 1, 1, 1), device, generator) < gray
        images = torch.where(drained, colorless, images)
    # On the host by design: what is not blurred is not computed.
    blurred = (torch.rand(batch, generator=host_generator(generator), device="cpu") < blur).nonzero().flatten()
    if len(blurred) == 0:
        return images
    blurred = blurred.to(device, non_blocking=True)
    radius = min(math.ceil(3 * sigma[1]), *(side - 1 for side in images.shape[-2:]))
    sigmas = uniform(*sigma, (len(blurred), 1), device, generator).expand(-1, 2)
    smooth = gaussian_blur2d(images[blurred], (2 * radius + 1, 2 * radius + 1), sigmas.to(images.dtype))
    return images.index_copy(0, blurred, smooth.clamp(0, 1))


def match_by_place(first: View, second: View, grid: tuple[int, int]) -> torch.Tensor:
    """Find, for each cell of one view, the cell of another that shows the same place of the image.

    Args:
        first: The one view.
        second: The other.
        grid: Number of cells down and across, in either view.

    Returns:
        Indices of cells of ``second``, shape (B, rows * cols); -1 where it does not show the place.
    """
    places = []
    for count, own_start, own_side, other_start, other_side in (
        (grid[0], first.top, first.height, second.top, second.height),
        (grid[1], first.left, first.width, second.left, second.width),
    ):
        share = (torch.arange(count, device=own_start.device) + 0.5) / count
        place = own_start.unsqueeze(1) + own_side.unsqueeze(1) * share
        cell = ((place - other_start.unsqueeze(1)) / other_side.unsqueeze(1) * count).floor().long()
        places.append(torch.where((cell >= 0) & (cell < count), cell, -1))
    rows, cols = places[0].unsqueeze(2), places[1].unsqueeze(1)
    index = rows * grid[1] + cols
    return torch.where((rows >= 0) & (cols >= 0), index, -1).flatten(1)
