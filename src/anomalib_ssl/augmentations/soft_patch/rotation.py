# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Rotation of whole images, differentiable in the angle."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.pixels import full_masks
from anomalib_ssl.augmentations.sampling import uniform
from anomalib_ssl.augmentations.symmetries import PADDINGS, rotate_and_shift
from anomalib_ssl.checks import check_choice, check_number


@dataclass(frozen=True)
class Rotation(Augmentation):
    """Rotate whole images by one angle, differentiable in it through the sampling grid.

    The reviews of ST-SSAD (Yoo, Zhao and Akoglu, https://arxiv.org/abs/2306.12033) name rotation as its global
    augmentation. Padding and the random shift are this package's choices: interpolation blurs an image, by which a
    network could tell a rotated one from one that is not. So all are shifted by a random part of a pixel, through the
    same interpolation, and ``Rotation(0)`` makes the counterpart that is not rotated.

    Args:
        angle: Angle in degrees, counter-clockwise.
        shift: Shifts along either axis are drawn from [-shift, shift] pixels.
        padding: What fills uncovered places: ``border`` repeats the outermost pixels, ``reflection`` mirrors the image.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> rotated, _ = Rotation(90.0, shift=0.0)(images)
        >>> torch.allclose(rotated, images.rot90(1, (2, 3)), atol=1e-4)
        True
    """

    angle: float = 15.0
    shift: float = 0.5
    padding: Literal["border", "reflection"] = "reflection"

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_number("angle", self.angle)
        check_number("shift", self.shift, 0)
        check_choice("padding", self.padding, PADDINGS)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw ``shift_y`` and ``shift_x`` in pixels, and give ``angle`` in radians, all (B,)."""
        shift_y, shift_x = uniform(-self.shift, self.shift, (2, shape[0]), device, generator)
        return {"angle": torch.full_like(shift_y, math.radians(self.angle)), "shift_y": shift_y, "shift_x": shift_x}

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotate ``images`` (B, C, H, W); every pixel counts as written."""
        return rotate_and_shift(images, parameters, self.padding), full_masks(images, True)

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Rotate masks (B, 1, H, W) together with their images; values are kept, not interpolated."""
        return rotate_and_shift(masks, parameters, self.padding, mode="nearest")
