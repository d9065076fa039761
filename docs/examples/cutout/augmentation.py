# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Cutout: a rectangle of the image in one grey."""

from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations import Augmentation, Parameters
from anomalib_ssl.augmentations.pixels import from_unit, to_unit
from anomalib_ssl.augmentations.sampling import integers_up_to, uniform
from anomalib_ssl.checks import check_range


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Fill a random rectangle with a random grey.

    After DeVries and Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017
    (https://arxiv.org/abs/1708.04552), where squares are black and networks shall not notice.

    Args:
        side: Shortest and longest side of the rectangle as a share of the image's, in (0, 1].

    Raises:
        ValueError: If ``side`` is outside its limits.

    Example:
        >>> images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> cut, masks = Cutout()(images, generator=torch.Generator().manual_seed(0))
        >>> torch.equal(torch.where(masks, images, cut), images)
        True
    """

    side: tuple[float, float] = (0.1, 0.4)

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_range("side", self.side, 1e-3, 1)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw ``height``, ``width``, ``top`` and ``left`` in pixels, and ``grey`` in [0, 1], all (B,)."""
        batch, (image_height, image_width) = shape[0], shape[-2:]
        down, across = uniform(*self.side, (2, batch), device, generator)
        height = (down * image_height).round().clamp(min=1).long()
        width = (across * image_width).round().clamp(min=1).long()
        return {
            "height": height,
            "width": width,
            "top": integers_up_to(image_height - height, generator),
            "left": integers_up_to(image_width - width, generator),
            "grey": uniform(0, 1, batch, device, generator),
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Fill rectangles of ``images`` (B, C, H, W); the masks (B, 1, H, W) show them."""
        height, width, top, left, grey = (
            parameters[name].to(images.device).view(-1, 1, 1, 1) for name in ("height", "width", "top", "left", "grey")
        )
        row = torch.arange(images.shape[-2], device=images.device).view(-1, 1)
        column = torch.arange(images.shape[-1], device=images.device)
        # Bounds of all images at once, rather than a loop over the batch.
        masks = (row >= top) & (row < top + height) & (column >= left) & (column < left + width)
        return from_unit(torch.where(masks, grey.to(to_unit(images).dtype), to_unit(images)), images.dtype), masks
