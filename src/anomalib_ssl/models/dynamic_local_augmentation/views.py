# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Views of normal images that shall have equal features."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from kornia.filters import gaussian_blur2d

from anomalib_ssl.augmentations import RandomShift, color_jitter, shift_images
from anomalib_ssl.augmentations.color_jitter import sample_color_jitter
from anomalib_ssl.augmentations.pixels import read_window
from anomalib_ssl.augmentations.sampling import integers, uniform
from anomalib_ssl.checks import check_number, check_whole

REFERENCE_SIZE = 256
"""Shorter image side in pixels to which shifts refer."""

JITTER = (0.1, 0.1, 0.1, 0.02)
"""Strengths of brightness, contrast, saturation and hue; a view is jittered with a chance of 0.8."""

BLUR = (0.1, 0.5)
"""Least and largest sigma in pixels; a view is blurred with a chance of 0.2."""

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

    What the paper's views are is not known. These, this package's choice, keep features aware of position and colour,
    which is what scores rest on: a crop of fixed size, weak jitter and hardly any blur.

    Args:
        crop: Height and width of a view as a share of the image's, in [0.25, 1]; rounded to multiples of 8 pixels.
        shift: Largest translation before the crop, with mirrored borders, in pixels of an image whose shorter side is
            256; other images scale it.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its limits.
    """

    crop: float = 0.875
    shift: int = 0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_number("crop", self.crop, 0.25, 1)
        check_whole("shift", self.shift, 0, REFERENCE_SIZE - 1)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Make one view (B, 3, h, w) of each of the images (B, 3, H, W), floats in [0, 1]."""
        size = self.view_size((images.shape[-2], images.shape[-1]))
        return _recolored(self._cropped(images, size))

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
        return read_window(images, rows, cols)


def _recolored(images: torch.Tensor) -> torch.Tensor:
    """Jitter colours with a chance of 0.8, blur with a chance of 0.2."""
    batch, device = len(images), images.device
    parameters = sample_color_jitter(batch, JITTER, device)
    chosen = uniform(0, 1, batch, device) < 0.8
    for name, neutral in _NEUTRAL.items():
        parameters[name] = torch.where(chosen, parameters[name], neutral)
    images = color_jitter(images, parameters)
    # On the host by design: what is not blurred is not computed, and Kornia looks at what it is to blur by.
    blurred = (torch.rand(batch, device="cpu") < 0.2).nonzero().flatten()
    if len(blurred) == 0:
        return images
    sigmas = uniform(*BLUR, (len(blurred), 1), "cpu").expand(-1, 2)
    blurred = blurred.to(device, non_blocking=True)
    radius = min(math.ceil(3 * BLUR[1]), *(side - 1 for side in images.shape[-2:]))
    smooth = gaussian_blur2d(images[blurred], (2 * radius + 1, 2 * radius + 1), sigmas)
    return images.index_copy(0, blurred, smooth.clamp(0, 1))
