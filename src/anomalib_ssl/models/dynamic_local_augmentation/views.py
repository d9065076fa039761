# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Views of normal images that shall have equal features."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from kornia.filters import gaussian_blur2d
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import RandomShift, color_jitter, shift_images
from anomalib_ssl.augmentations.color_jitter import sample_color_jitter
from anomalib_ssl.augmentations.pixels import gather_pixels
from anomalib_ssl.augmentations.sampling import integers, uniform
from anomalib_ssl.checks import check_choice, check_number, check_whole

KINDS = ("mild", "simsiam")
"""Names of the kinds of views."""

REFERENCE_SIZE = 256
"""Shorter image side in pixels to which shifts refer."""

_NEUTRAL = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


class TrainingViews(NamedTuple):
    """What the network sees in an update.

    Attributes:
        images: Two views of each of B images, one batch after the other, and then, where there are negatives, the
            locally augmented version of each first view; (2 * B, 3, h, w) or (3 * B, 3, h, w), values in [0, 1].
        masks: Where an augmented version differs from its view, boolean, (B, 1, h, w); none without negatives.
    """

    images: torch.Tensor
    masks: torch.Tensor | None


@dataclass(frozen=True)
class GlobalViews:
    """Make views of images by random crops, colour changes and blur.

    What the paper's views are is not known. ``mild``, this package's choice, keeps features aware of position and
    colour, which is what scores rest on: a crop of fixed size, weak jitter and hardly any blur. ``simsiam`` has the
    views of SimSiam's code (Chen and He, CVPR 2021): crops of 20 to 100 % of the area, strong jitter, loss of colour,
    blur and flips.

    Args:
        kind: ``mild`` or ``simsiam``.
        crop: Height and width of a view as a share of the image's, in [0.25, 1]; rounded to multiples of 8 pixels.
        shift: Largest translation before the crop of ``mild``, with mirrored borders, in pixels of an image whose
            shorter side is 256; other images scale it.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its limits.
    """

    kind: Literal["mild", "simsiam"] = "mild"
    crop: float = 0.875
    shift: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("kind", self.kind, KINDS)
        check_number("crop", self.crop, 0.25, 1)
        check_whole("shift", self.shift, 0, REFERENCE_SIZE - 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Make one view (B, 3, h, w) of each of the images (B, 3, H, W), floats in [0, 1]."""
        size = self.view_size((images.shape[-2], images.shape[-1]))
        if self.kind == "mild":
            return _recolored(self._cropped(images, size), (0.1, 0.1, 0.1, 0.02), 0.0, (0.1, 0.5), 0.2)
        return _recolored(_resized(images, size), (0.4, 0.4, 0.4, 0.1), 0.2, (0.1, 2.0), 0.5)

    def view_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width in pixels of views of images of a height and width."""
        if self.crop == 1:
            return size
        height, width = (min(max(8 * round(self.crop * side / 8), 8), side) for side in size)
        return height, width

    def _cropped(self, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        batch, device = len(images), images.device
        images = shift_images(images, RandomShift(self.shift, REFERENCE_SIZE).sample(images.shape, device))
        rows, cols = (
            integers(0, whole - side, (batch, 1), device) + torch.arange(side, device=device)
            for whole, side in zip(images.shape[-2:], size, strict=True)
        )
        index = (rows.unsqueeze(2) * images.shape[-1] + cols.unsqueeze(1)).flatten(1).unsqueeze(1)
        return gather_pixels(images, index).reshape(batch, images.shape[1], *size)


def _resized(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Parts of 20 to 100 % of the area, of aspects from 3/4 to 4/3, brought to one size; half of them flipped."""
    batch, device, (rows, cols) = len(images), images.device, images.shape[-2:]
    area, aspect, down, right, flip = uniform(0, 1, (5, batch), device)
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
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _recolored(
    images: torch.Tensor,
    strengths: tuple[float, float, float, float],
    gray: float,
    sigma: tuple[float, float],
    blur: float,
) -> torch.Tensor:
    """Jitter colours with a chance of 0.8, remove them with a chance of ``gray``, blur with a chance of ``blur``."""
    batch, device = len(images), images.device
    parameters = sample_color_jitter(batch, strengths, device)
    chosen = uniform(0, 1, batch, device) < 0.8
    for name, neutral in _NEUTRAL.items():
        parameters[name] = torch.where(chosen, parameters[name], neutral)
    images = color_jitter(images, parameters)
    if gray > 0:
        colorless = color_jitter(images, {"saturation": images.new_zeros(batch), "order": parameters["order"]})
        images = torch.where(uniform(0, 1, (batch, 1, 1, 1), device) < gray, colorless, images)
    # On the host by design: what is not blurred is not computed, and Kornia looks at what it is to blur by.
    blurred = (torch.rand(batch, device="cpu") < blur).nonzero().flatten()
    if len(blurred) == 0:
        return images
    sigmas = uniform(*sigma, (len(blurred), 1), "cpu").expand(-1, 2)
    blurred = blurred.to(device, non_blocking=True)
    radius = min(math.ceil(3 * sigma[1]), *(side - 1 for side in images.shape[-2:]))
    smooth = gaussian_blur2d(images[blurred], (2 * radius + 1, 2 * radius + 1), sigmas)
    return images.index_copy(0, blurred, smooth.clamp(0, 1))
