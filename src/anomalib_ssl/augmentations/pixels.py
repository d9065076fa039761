# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Reading and writing chosen pixels of a batch: exact, with no loop over the batch, in either memory format.

Pixels are named by their index into the flattened image, shape (B, 1, L). L is the same for the whole batch and known
to the host, so that nothing waits for the device; a sample with fewer pixels names its last one again.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch


def window_index(rows: torch.Tensor, columns: torch.Tensor, width: int) -> torch.Tensor:
    """Name the pixels where rows (B, h) and columns (B, w) of images of a width cross: shape (B, 1, h * w)."""
    return (rows.unsqueeze(2) * width + columns.unsqueeze(1)).flatten(1).unsqueeze(1)


def check_samples(parameter: torch.Tensor, images: torch.Tensor) -> None:
    """Raise unless a parameter (B, ...) has been drawn for as many images as there are.

    Raises:
        ValueError: If it is of another number of images.
    """
    if len(parameter) != len(images):
        msg = f"parameters must be of as many samples as there are images, got {len(parameter)} for {len(images)}."
        raise ValueError(msg)


def gather_pixels(images: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Read pixels.

    Args:
        images: Shape (B, C, H, W).
        index: Positions in the flattened image, shape (B, 1, L).

    Returns:
        The pixels (B, C, L), channels last in memory where the images are.

    Raises:
        ValueError: If ``index`` is of another number of images.
    """
    check_samples(index, images)
    channels = images.shape[1]
    if is_channels_last(images):
        pixels = images.permute(0, 2, 3, 1).flatten(1, 2)
        return pixels.gather(1, index.transpose(1, 2).expand(-1, -1, channels)).transpose(1, 2)
    return images.flatten(2).gather(2, index.expand(-1, channels, -1))


def read_window(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Read a window of each image: all of one size, each at its own place.

    Args:
        images: Shape (B, C, H, W).
        rows: Rows of the pixels, shape (B, h).
        columns: Their columns, (B, w).

    Returns:
        Pixels (B, C, h, w), channels last in memory where the images are.
    """
    index = window_index(rows, columns, images.shape[-1])
    return gather_pixels(images, index).unflatten(2, (rows.shape[1], columns.shape[1]))


def write_window(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> None:
    """Write a window of each image, in place.

    Args:
        images: Shape (R, C, H, W).
        rows: Rows of the pixels, shape (R, h).
        columns: Their columns, (R, w).
        values: New pixels, shape (R, C, h, w).
    """
    index = window_index(rows, columns, images.shape[3]).expand(-1, images.shape[1], -1)
    images.view(*images.shape[:2], -1).scatter_(2, index, values.flatten(2))


def read_between(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Interpolate bilinearly between pixels; beyond the images' borders they are repeated.

    Args:
        images: Shape (R, C, H, W), floats in [0, 1] or uint8.
        rows: Vertical positions in pixels, shape (R, h); the first pixel's is 0.
        columns: Horizontal ones, (R, w).

    Returns:
        Values (R, C, h, w) in [0, 1].
    """
    height, width = images.shape[2:]
    rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    top, left = rows.floor(), columns.floor()
    down, across = (rows - top).view(len(rows), 1, -1, 1), (columns - left).view(len(rows), 1, 1, -1)
    upper, first = top.long(), left.long()
    lower, second = (upper + 1).clamp(max=height - 1), (first + 1).clamp(max=width - 1)

    def along(row: torch.Tensor) -> torch.Tensor:
        one, two = (to_unit(read_window(images, row, column)) for column in (first, second))
        return one.lerp(two, across.to(one.dtype))

    above, below = along(upper), along(lower)
    return above.lerp(below, down.to(above.dtype))


def cached_blocks(samples: torch.Tensor, pixels: int, most: int) -> Iterator[slice]:
    """Divide a batch into parts whose intermediate results a CPU keeps in its caches; elsewhere it is one part.

    Args:
        samples: The batch, along the first axis.
        pixels: Pixels of a sample that are worked on.
        most: Pixels of a part.
    """
    size = max(most // max(pixels, 1), 1) if samples.device.type == "cpu" else len(samples)
    for start in range(0, len(samples), size):
        yield slice(start, start + size)


def is_channels_last(images: torch.Tensor) -> bool:
    """Whether images (B, C, H, W) have their channels last in memory, and not only formally so."""
    return images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()


def full_masks(images: torch.Tensor, value: bool) -> torch.Tensor:
    """Give boolean masks (B, 1, H, W) for images (B, C, H, W), with one value everywhere."""
    return torch.full_like(images[:, :1], value, dtype=torch.bool, memory_format=torch.contiguous_format)


def writable_copy(images: torch.Tensor) -> torch.Tensor:
    """Copy images (B, C, H, W) so that pixels can be written, in the same memory format where it is one of the two."""
    dense = images.is_contiguous() or is_channels_last(images)
    return images.clone(memory_format=torch.preserve_format if dense else torch.contiguous_format)


def to_unit(pixels: torch.Tensor) -> torch.Tensor:
    """Convert pixels of any data type to floats in [0, 1], in float32 at least, for arithmetic."""
    if pixels.dtype == torch.uint8:
        return pixels.float().mul_(1 / 255)
    return pixels.to(torch.promote_types(pixels.dtype, torch.float32))


def from_unit(pixels: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert floats in [0, 1] to a data type; uint8 rounds to the nearest of 256 levels."""
    return pixels.mul(255).round_().to(dtype) if dtype == torch.uint8 else pixels.to(dtype)


@dataclass(frozen=True)
class Paste:
    """Pixels to be written into a batch of images.

    Attributes:
        index: Positions in the flattened image, shape (B, 1, L); a position may occur again with the same value.
        values: New pixels, shape (B, C, L).
        inside: Boolean, shape (B, 1, L): which of the pixels shall be written. None writes all.
    """

    index: torch.Tensor
    values: torch.Tensor
    inside: torch.Tensor | None = None

    def only(self, chosen: torch.Tensor) -> "Paste":
        """Restrict to the samples where ``chosen`` (B,) is true."""
        chosen = chosen.view(-1, 1, 1)
        return replace(self, inside=chosen.expand_as(self.index) if self.inside is None else self.inside & chosen)

    def write_(self, images: torch.Tensor) -> None:
        """Write into ``images`` (B, C, H, W), in place."""
        self._write(images, images)

    def onto(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Write into a copy of ``images`` (B, C, H, W).

        Returns:
            The changed images (B, C, H, W) and boolean masks (B, 1, H, W) of the pixels written.
        """
        result, masks = writable_copy(images), full_masks(images, False)
        self._write(result, images)
        written = torch.ones_like(self.index, dtype=torch.bool) if self.inside is None else self.inside
        masks.flatten(2).scatter_(2, self.index, written)
        return result, masks

    def _write(self, result: torch.Tensor, images: torch.Tensor) -> None:
        values = self.values
        if self.inside is not None:
            values = torch.where(self.inside, values, gather_pixels(images, self.index))
        batch, channels = result.shape[:2]
        # A view, so that a layout that cannot be written in place is an error rather than lost.
        result.view(batch, channels, -1).scatter_(2, self.index.expand(-1, channels, -1), values)
