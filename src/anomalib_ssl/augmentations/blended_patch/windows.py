# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Windows of a batch of images: each at its own place, all of one size."""

from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.pixels import to_unit


@dataclass(frozen=True)
class Flat:
    """The pixels of images (B, C, H, W) as one row, in whatever order they lie in memory.

    Args:
        pixels: All pixels, shape (B * C * H * W,). A view, so that they can be written.
        strides: How far neighbours are from each other along the four axes.
        shape: Shape of the images.
    """

    pixels: torch.Tensor
    strides: tuple[int, ...]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, images: torch.Tensor) -> "Flat":
        """View images, or a copy where there are gaps between their pixels."""
        if not (images.is_contiguous() or images.is_contiguous(memory_format=torch.channels_last)):
            images = images.contiguous()
        return cls(images.as_strided((images.numel(),), (1,)), images.stride(), tuple(images.shape))

    def index(self, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Where pixels are.

        Args:
            images: Numbers of images, shape (R,).
            rows: Rows of the pixels, (R, h).
            columns: Their columns, (R, w).

        Returns:
            Indices (R, C, h, w) into :attr:`pixels`.
        """
        channels = torch.arange(self.shape[1], device=rows.device) * self.strides[1]
        down = rows * self.strides[2] + images.unsqueeze(1) * self.strides[0]
        across = columns * self.strides[3]
        return channels.view(1, -1, 1, 1) + (down.view(len(rows), 1, -1, 1) + across.view(len(rows), 1, 1, -1))

    def read(self, index: torch.Tensor) -> torch.Tensor:
        """Give pixels (R, C, h, w)."""
        return self.pixels.index_select(0, index.flatten()).view(index.shape)

    def write(self, index: torch.Tensor, values: torch.Tensor) -> None:
        """Change pixels (R, C, h, w), each named once."""
        self.pixels.index_copy_(0, index.flatten(), values.flatten())

    def read_between(self, images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Interpolate bilinearly between pixels; beyond the images' borders they are repeated.

        Args:
            images: Numbers of images, shape (R,).
            rows: Vertical positions in pixels, shape (R, h); the first pixel's is 0.
            columns: Horizontal ones, (R, w).

        Returns:
            Values (R, C, h, w) in [0, 1].
        """
        height, width = self.shape[2:]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        top, left = rows.floor(), columns.floor()
        down, across = rows - top, columns - left
        upper, first = top.long(), left.long()
        lower, second = (upper + 1).clamp(max=height - 1), (first + 1).clamp(max=width - 1)

        def along(row: torch.Tensor) -> torch.Tensor:
            one, two = (to_unit(self.read(self.index(images, row, column))) for column in (first, second))
            return one.lerp_(two, across.to(one.dtype).view(len(one), 1, 1, -1).expand_as(one))

        above, below = along(upper), along(lower)
        return above.lerp_(below, down.to(above.dtype).view(len(above), 1, -1, 1).expand_as(above))
