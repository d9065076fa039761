# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random sizes and places of one patch or strip in the ranges of Li et al. (CVPR 2021), from Python's own generator."""

import math
import random
from typing import NamedTuple

AREA = (0.02, 0.15)
ASPECT = ((0.3, 1.0), (1.0, 3.3))
SCAR_WIDTH = (2, 16)
SCAR_LENGTH = (10, 25)
SCAR_ANGLE = 45.0
MAX_SHIFT = 16


class Place(NamedTuple):
    """A rectangle in an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom, as PIL wants them."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """All channels, the rows and the columns, as a tensor (C, H, W) wants them."""
        return slice(None), slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def draw_patch(height: int, width: int) -> tuple[int, int]:
    """Draw height and width of a patch for an image of the given size."""
    area = random.uniform(*AREA) * height * width
    aspect = random.uniform(*random.choice(ASPECT))
    return min(round(math.sqrt(area / aspect)), height), min(round(math.sqrt(area * aspect)), width)


def draw_strip() -> tuple[int, int, float]:
    """Draw height and width of a scar, and its rotation in degrees."""
    return random.randint(*SCAR_LENGTH), random.randint(*SCAR_WIDTH), random.uniform(-SCAR_ANGLE, SCAR_ANGLE)


def draw_place(size: tuple[int, int], image_size: tuple[int, int]) -> Place:
    """Draw where a rectangle of a size (height, width) goes in an image."""
    top, left = (random.randint(0, outer - inner) for inner, outer in zip(size, image_size, strict=True))
    return Place(top, left, *size)


def draw_shift() -> tuple[int, int]:
    """Draw top and left of a crop from an image padded by ``MAX_SHIFT``."""
    return random.randint(0, 2 * MAX_SHIFT), random.randint(0, 2 * MAX_SHIFT)
