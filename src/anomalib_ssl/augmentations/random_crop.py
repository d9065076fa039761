# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Square crops at random places."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.pixels import full_masks, read_window
from anomalib_ssl.augmentations.sampling import Device, Shape, integers
from anomalib_ssl.checks import check_whole


def crop_images(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Cut one square out of each image.

    Args:
        images: Shape (B, C, H, W).
        parameters: ``top`` and ``left`` (B,), the first row and column; and on the host ``side`` (1, 1), in pixels.

    Returns:
        Crops (B, C, side, side), of the images' data type and memory format.
    """
    # On the host by design: the size of a tensor, known without asking the device.
    (side,) = parameters["side"][0].tolist()
    top, left = (parameters[name].to(images.device).unsqueeze(1) for name in ("top", "left"))
    position = torch.arange(side, device=images.device)
    return read_window(images, top + position, left + position)


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """Cut a square out of each image, uniformly over all places.

    CutPaste's patch model is trained on such crops, made before anything is pasted (Li et al., CVPR 2021, equation 3;
    64 pixels in section 4.2).

    Args:
        size: Side of the square in pixels, at least 1.

    Raises:
        ValueError: If ``size`` is less than 1, or at the first image that is smaller.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> RandomCrop(16)(images, generator=torch.Generator().manual_seed(0))[0].shape
        torch.Size([2, 3, 16, 16])
    """

    moves: ClassVar[bool] = True

    size: int = 64

    def __post_init__(self) -> None:
        """Check the argument."""
        super().__post_init__()
        check_whole("size", self.size, 1)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw ``top`` and ``left`` (B,) uniformly from all places where the square fits."""
        height, width = shape[-2:]
        if self.size > min(height, width):
            msg = f"size must not exceed the image, got {self.size} pixels for images of {(height, width)}."
            raise ValueError(msg)
        return {
            "top": integers(0, height - self.size, shape[0], device, generator),
            "left": integers(0, width - self.size, shape[0], device, generator),
            "side": torch.tensor([[self.size]], device="cpu"),
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Crop ``images`` (B, C, H, W); every pixel counts as written."""
        crops = crop_images(images, parameters)
        return crops, full_masks(crops, True)

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Crop masks (B, 1, H, W) together with their images."""
        return crop_images(masks, parameters)
