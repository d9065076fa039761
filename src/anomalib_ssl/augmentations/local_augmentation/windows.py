# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Windows: rectangles of different sizes, one an image, in tensors of one shape."""

from dataclasses import dataclass
from functools import cached_property

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.pixels import gather_pixels, window_index


@dataclass(frozen=True)
class Window:
    """A grid of n x m pixels of each image, and the rectangle in it that matters.

    Attributes:
        rows: Rows of the pixels in the image, shape (B, n).
        cols: Their columns, shape (B, m).
        top: First row of the rectangle, counted in the window, shape (B,).
        left: First column of the rectangle, likewise.
        height: Height of the rectangle in pixels of the window, shape (B,).
        width: Width of the rectangle, likewise.
    """

    rows: torch.Tensor
    cols: torch.Tensor
    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the window."""
        return self.rows.shape[1], self.cols.shape[1]

    @cached_property
    def offsets(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows (B, n, 1) and columns (B, 1, m) of the pixels, counted from the rectangle's corner."""
        down, right = (torch.arange(side, device=self.rows.device) for side in self.shape)
        return (down - self.top.unsqueeze(1)).unsqueeze(2), (right - self.left.unsqueeze(1)).unsqueeze(1)

    @cached_property
    def inside(self) -> torch.Tensor:
        """Whether a pixel belongs to the rectangle, boolean, shape (B, 1, n * m)."""
        y, x = self.offsets
        rows, cols = (
            (offset >= 0) & (offset < side.view(-1, 1, 1)) for offset, side in ((y, self.height), (x, self.width))
        )
        return (rows & cols).flatten(1).unsqueeze(1)

    @cached_property
    def shares(self) -> torch.Tensor:
        """What each pixel contributes to a mean over the rectangle, float32, shape (B, 1, n * m)."""
        return self.inside / (self.height * self.width).view(-1, 1, 1)

    def index(self, image_width: int) -> torch.Tensor:
        """Positions of the pixels in the flattened image, shape (B, 1, n * m)."""
        return window_index(self.rows, self.cols, image_width)


def full_windows(rectangle: Parameters, sides: tuple[int, int], image_size: tuple[int, int]) -> Window:
    """Cover one rectangle an image by windows that lie in the image: no pixel occurs twice.

    Args:
        rectangle: ``top``, ``left``, ``height`` and ``width`` (B,) in pixels.
        sides: Height and width of the windows, not less than any rectangle's.
        image_size: Height and width of the images.
    """
    first = [
        rectangle[name].clamp(max=whole - side)
        for name, side, whole in zip(("top", "left"), sides, image_size, strict=True)
    ]
    rows, cols = (
        corner.unsqueeze(1) + torch.arange(side, device=corner.device)
        for corner, side in zip(first, sides, strict=True)
    )
    return Window(
        rows,
        cols,
        rectangle["top"] - first[0],
        rectangle["left"] - first[1],
        rectangle["height"],
        rectangle["width"],
    )


def thinned_windows(rectangles: Parameters, sides: tuple[int, int], image_size: tuple[int, int], stride: int) -> Window:
    """Cover any number of rectangles by windows of every ``stride``-th row and column, enough to judge them by.

    Args:
        rectangles: ``top``, ``left``, ``height`` and ``width`` in pixels, of any one shape.
        sides: Largest height and width.
        image_size: Height and width of the images.
        stride: Distance between the rows, and between the columns, that are looked at.
    """
    rectangle = {name: value.flatten() for name, value in rectangles.items()}
    rows, cols = (
        # Pixels beyond the rectangle may be any, but must exist.
        (rectangle[name].unsqueeze(1) + torch.arange(0, side, stride, device=rectangle[name].device)).clamp(
            max=whole - 1
        )
        for name, side, whole in zip(("top", "left"), sides, image_size, strict=True)
    )
    zeros = torch.zeros_like(rectangle["top"])
    height, width = ((rectangle[name] + (stride - 1)) // stride for name in ("height", "width"))
    return Window(rows, cols, zeros, zeros, height, width)


def read_windows(images: torch.Tensor, window: Window) -> torch.Tensor:
    """Read the pixels of windows.

    Args:
        images: Shape (B, C, H, W).
        window: T windows an image, those of one image after the other.

    Returns:
        Pixels of shape (B * T, C, n * m).
    """
    batch = len(images)
    index = window.index(images.shape[-1]).reshape(batch, 1, -1)
    pixels = gather_pixels(images, index)
    return pixels.unflatten(2, (len(window.rows) // batch, -1)).transpose(1, 2).flatten(0, 1)
