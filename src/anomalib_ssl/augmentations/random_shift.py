# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random translation with mirrored borders."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters, scaled_pixels
from anomalib_ssl.augmentations.pixels import full_masks, read_window
from anomalib_ssl.augmentations.sampling import Device, Shape, integers
from anomalib_ssl.checks import check_number, check_whole


def shift_images(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Translate images by whole pixels, filling the border by reflection without repeating the edge.

    Args:
        images: Shape (B, C, H, W).
        parameters: ``shift_y`` and ``shift_x``, shape (B,): rows and columns by which the content moves up and left.
            Their absolute values must be smaller than H and W.

    Returns:
        The translated images (B, C, H, W), equal to a reflect-padded image cropped at the shifted position, of the
        images' data type and memory format; the images themselves where the parameters are empty.
    """
    if "shift_y" not in parameters:
        return images
    shift_y, shift_x = (parameters[name].to(images.device) for name in ("shift_y", "shift_x"))
    height, width = images.shape[-2:]
    return read_window(images, _reflect(shift_y, height), _reflect(shift_x, width))


def _reflect(shift: torch.Tensor, size: int) -> torch.Tensor:
    index = (torch.arange(size, device=shift.device) + shift.unsqueeze(1)).abs()
    return (size - 1) - ((size - 1) - index).abs()


@dataclass(frozen=True)
class RandomShift(Augmentation):
    """Move each image by up to ``max_shift`` pixels in either direction, borders mirrored.

    CutPaste translates the base image before either view is made (Li et al., CVPR 2021, section 2.1). The paper gives
    no magnitude and no border rule; reflect padding and a random crop follow the same group's one-class code
    (deep_representation_one_class, data/augment_ops.py).

    Args:
        max_shift: Largest translation in pixels, 0 or more and smaller than the image.
        reference_size: Shorter image side in pixels to which ``max_shift`` refers; other images scale it. None takes
            it as it is.

    Raises:
        ValueError: If ``max_shift`` is negative or ``reference_size`` less than 1, or at the first image that is not
            larger.

    Example:
        >>> import torch
        >>> shift = RandomShift(max_shift=16)
        >>> parameters = shift.sample((100, 3, 64, 64), generator=torch.Generator().manual_seed(0))
        >>> parameters["shift_y"].unique().tolist()
        [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    """

    moves: ClassVar[bool] = True

    max_shift: int = 16
    reference_size: float | None = 256

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_whole("max_shift", self.max_shift, 0)
        if self.reference_size is not None:
            check_number("reference_size", self.reference_size, 1)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw ``shift_y`` and ``shift_x`` (B,) uniformly from {-max_shift, ..., max_shift}; nothing for 0."""
        largest = scaled_pixels(self.max_shift, shape, self.reference_size)
        if largest >= min(shape[-2:]):
            msg = f"max_shift must be smaller than the image, got {largest} pixels for images of {tuple(shape[-2:])}."
            raise ValueError(msg)
        if largest == 0:
            return {}
        shift_y, shift_x = integers(-largest, largest, (2, shape[0]), device, generator)
        return {"shift_y": shift_y, "shift_x": shift_x}

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Translate ``images`` (B, C, H, W); every pixel counts as written."""
        return shift_images(images, parameters), full_masks(images, True)

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Translate masks (B, 1, H, W) together with their images."""
        return shift_images(masks, parameters)
