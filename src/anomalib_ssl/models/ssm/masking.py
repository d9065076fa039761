# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks that hide square cells of an image: 1 where a pixel is visible, 0 where it is hidden."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.base import scaled_pixels
from anomalib_ssl.augmentations.random import host_generator, uniform
from anomalib_ssl.checks import check_number


def random_partition(
    size: tuple[int, int],
    cell: int,
    num_masks: int = 3,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Deal the cells of an image out to masks at random, so that every cell is hidden in exactly one of them.

    This is how the code of SSM (Huang et al., IEEE TMM 2022) masks images. All masks hide equally many cells, or one
    more than others where the cells do not divide.

    Args:
        size: Height H and width W of the image in pixels.
        cell: Side of a cell in pixels, a divisor of both.
        num_masks: Number of masks n, at least 2 and at most the number of cells.
        batch_size: Number of partitions B.
        device: Device of the masks. Defaults to torch's default device.
        generator: Source of randomness on ``device``. Defaults to torch's global generator.

    Returns:
        Shape (n, B, 1, H, W), float32.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> masks = random_partition((8, 8), cell=2, generator=torch.Generator().manual_seed(0))
        >>> (1 - masks).sum(dim=0).unique()
        tensor([1.])
    """
    height, width = _grid(size, cell)
    check_number("num_masks", num_masks, 2, height * width)
    order = torch.rand(batch_size, height * width, device=device, generator=generator).argsort(dim=1)
    hidden_in = (order % num_masks).view(1, batch_size, 1, height, width)
    visible = hidden_in != torch.arange(num_masks, device=order.device).view(-1, 1, 1, 1, 1)
    return _enlarge(visible, cell)


def checkerboards(size: tuple[int, int], cell: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Draw a checkerboard and its complement (Huang et al., figure 1).

    Args:
        size: Height H and width W of the image in pixels.
        cell: Side of a cell in pixels, a divisor of both.
        device: Device of the masks. Defaults to torch's default device.

    Returns:
        Shape (2, 1, 1, H, W), float32; the first cell is visible in the first mask.

    Raises:
        ValueError: If ``cell`` is no such divisor.
    """
    rows, columns = (torch.arange(count, device=device) for count in _grid(size, cell))
    odd = (rows.unsqueeze(1) + columns) % 2 == 1
    return _enlarge(torch.stack([~odd, odd]).unflatten(0, (2, 1, 1)), cell)


def random_uncovered(
    size: tuple[int, int],
    block: int,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw regions to be uncovered before an image is masked: all but one random rectangle of blocks.

    Refinement shows the network such images. That training may too is this package's addition.

    Args:
        size: Height H and width W of the image in pixels.
        block: Side of a block in pixels, a divisor of both.
        batch_size: Number of regions B.
        device: Device of the regions. Defaults to torch's default device.
        generator: Source of randomness on ``device``. Defaults to torch's global generator.

    Returns:
        Shape (B, 1, H, W), float32: 1 where everything is to be visible. The rectangle, 0, is at least a block.

    Raises:
        ValueError: If ``block`` is no such divisor.
    """
    rows, columns = (_random_interval(count, batch_size, device, generator) for count in _grid(size, block))
    covered = rows.unsqueeze(2) & columns.unsqueeze(1)
    return _enlarge(~covered.unsqueeze(1), block)


def compose(images: torch.Tensor, restored: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Put an image together from restorations, each pixel from the one in which it was hidden.

    Pixels that no mask hides are the image's own.

    Args:
        images: Original images (B, C, H, W).
        restored: Restored images (..., n, B, C, H, W), one for each of n masks.
        masks: Shape (..., n, B or 1, 1, H, W); no pixel may be hidden in more than one of the n.

    Returns:
        Composite images (..., B, C, H, W).
    """
    hidden = 1 - masks
    visible = 1 - hidden.sum(dim=-5)
    return (restored * hidden).sum(dim=-5) + images * visible


@dataclass(frozen=True)
class RandomMasks:
    """Draw the masks of a training step: one cell size, and one random partition for all images or one for each.

    Args:
        cell_sizes: Sides of cells in pixels, of which one is drawn.
        num_masks: Number of masks n that share the cells of an image.
        per_sample: Whether every image gets a partition of its own.
        uncover_probability: How often everything but a random rectangle is uncovered first. The code of SSM does not.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> images = torch.zeros(4, 3, 32, 32)
        >>> RandomMasks((2, 4, 8), per_sample=True)(images, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 4, 1, 32, 32])
    """

    cell_sizes: tuple[int, ...]
    num_masks: int = 3
    per_sample: bool = False
    uncover_probability: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_number("num_masks", self.num_masks, 2)
        check_number("uncover_probability", self.uncover_probability, 0, 1)
        check_number("number of cell_sizes", len(self.cell_sizes), 1)

    def __call__(self, images: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw masks for images (B, C, H, W).

        Args:
            images: The images to be masked; only their shape and device matter.
            generator: Source of randomness on their device. Defaults to torch's global generator.

        Returns:
            Masks (n, B, 1, H, W), or (n, 1, 1, H, W) unless ``per_sample``.
        """
        size = (images.shape[-2], images.shape[-1])
        batch_size, device = (len(images) if self.per_sample else 1), images.device
        # On the host: it decides the shape of a tensor, and a value on an accelerator would have to be waited for.
        index = int(torch.randint(len(self.cell_sizes), (), generator=host_generator(generator), device="cpu"))
        masks = random_partition(size, self.cell_sizes[index], self.num_masks, batch_size, device, generator)
        if self.uncover_probability == 0:
            return masks
        uncovered = random_uncovered(size, max(self.cell_sizes), batch_size, device, generator)
        chosen = uniform(0, 1, (batch_size, 1, 1, 1), device, generator) < self.uncover_probability
        return masks.maximum(uncovered * chosen)


def scaled_cells(cell_sizes: Sequence[int], size: tuple[int, int], reference_size: int | None) -> tuple[int, ...]:
    """Convert cell sizes from pixels of a reference image to pixels of images of another size.

    Args:
        cell_sizes: Sides of cells in an image whose shorter side is ``reference_size``.
        size: Height and width of the images in pixels.
        reference_size: Shorter side of the reference image; none leaves the cells as they are.

    Returns:
        Sides of cells in pixels, rounded.

    Raises:
        ValueError: If there are none, or one is below 1 pixel or does not divide height and width.

    Example:
        >>> scaled_cells((4, 8, 16), (128, 128), reference_size=256)
        (2, 4, 8)
    """
    check_number("number of cell_sizes", len(cell_sizes), 1)
    cells = tuple(scaled_pixels(cell, size, reference_size) for cell in cell_sizes)
    if min(cells) < 1 or any(side % cell for cell in cells for side in size):
        msg = (
            f"cell_sizes must divide the image and be at least 1 pixel; {tuple(cell_sizes)} pixels of an image of "
            f"reference_size={reference_size} are {cells} pixels of one of {size[0]} x {size[1]}. With "
            "reference_size=None cells are taken as they are."
        )
        raise ValueError(msg)
    return cells


def _grid(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Number of cells down and across."""
    check_number("cell", cell, 1)
    height, width = size
    if height % cell or width % cell:
        msg = f"cell must divide the image, got {cell} pixels for one of {height} x {width}."
        raise ValueError(msg)
    return height // cell, width // cell


def _enlarge(cells: torch.Tensor, cell: int) -> torch.Tensor:
    """Give every cell of (..., 1, h, w) its pixels, (..., 1, H, W)."""
    pixels = F.interpolate(cells.flatten(0, -4).float(), scale_factor=float(cell), mode="nearest")
    return pixels.unflatten(0, cells.shape[:-3])


def _random_interval(
    count: int, batch_size: int, device: torch.device | str | None, generator: torch.Generator | None
) -> torch.Tensor:
    """Membership of ``count`` positions in random intervals of at least one, shape (batch_size, count)."""
    ends = uniform(0, count, (2, batch_size, 1), device, generator).floor_()
    position = torch.arange(count, device=ends.device)
    return (position >= ends.amin(dim=0)) & (position <= ends.amax(dim=0))
