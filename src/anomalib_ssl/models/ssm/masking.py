# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks that hide square cells of an image: 1 where a pixel is visible, 0 where it is hidden."""

from collections.abc import Sequence

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_whole, check_wholes

REFERENCE_SIZE = 256
"""Shorter side in pixels of the image that cell sizes refer to."""


def random_partition(
    size: tuple[int, int],
    cell: int,
    num_masks: int = 3,
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
        device: Device of the masks. Defaults to torch's default device.
        generator: Source of randomness on ``device``. Defaults to torch's global generator.

    Returns:
        Shape (n, 1, 1, H, W), float32.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> masks = random_partition((8, 8), cell=2, generator=torch.Generator().manual_seed(0))
        >>> (1 - masks).sum(dim=0).unique()
        tensor([1.])
    """
    height, width = _grid(size, cell)
    check_whole("num_masks", num_masks, 2, height * width)
    order = torch.rand(height * width, device=device, generator=generator, dtype=torch.float32).argsort()
    hidden_in = (order % num_masks).view(1, 1, 1, height, width)
    return _enlarge(hidden_in != torch.arange(num_masks, device=order.device).view(-1, 1, 1, 1, 1), cell)


def random_masks(
    size: tuple[int, int], cells: Sequence[int], num_masks: int = 3, device: torch.device | str | None = None
) -> torch.Tensor:
    """Draw the masks of a training step from torch's global generators: one of several cell sizes, and one partition.

    Args:
        size: Height H and width W of the images in pixels.
        cells: Sides of cells in pixels, of which one is drawn.
        num_masks: Number of masks n that share the cells of an image.
        device: Device of the masks. Defaults to torch's default device.

    Returns:
        Shape (n, 1, 1, H, W), float32.

    Raises:
        ValueError: If an argument is outside its limits.
    """
    # On the host: it decides the shape of a tensor, and a value on an accelerator would have to be waited for.
    index = int(torch.randint(len(cells), (), device="cpu"))
    return random_partition(size, cells[index], num_masks, device)


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


def scaled_cells(cell_sizes: Sequence[int], size: tuple[int, int]) -> tuple[int, ...]:
    """Convert cell sizes from pixels of a reference image to pixels of images of another size.

    Args:
        cell_sizes: Sides of cells in an image whose shorter side is 256 pixels.
        size: Height and width of the images in pixels.

    Returns:
        Sides of cells in pixels, rounded.

    Raises:
        TypeError: If ``cell_sizes`` is no sequence of integers.
        ValueError: If there are none, or one is below 1 pixel or does not divide height and width.

    Example:
        >>> scaled_cells((4, 8, 16), (128, 128))
        (2, 4, 8)
    """
    check_wholes("cell_sizes", cell_sizes, 1)
    cells = tuple(round(cell * min(size) / REFERENCE_SIZE) for cell in cell_sizes)
    if min(cells) < 1 or any(side % cell for cell in cells for side in size):
        msg = (
            f"cell_sizes must divide the image and be at least 1 pixel; {tuple(cell_sizes)} pixels of an image of "
            f"{REFERENCE_SIZE} are {cells} pixels of one of {size[0]} x {size[1]}."
        )
        raise ValueError(msg)
    return cells


def _grid(size: tuple[int, int], cell: int) -> tuple[int, int]:
    """Number of cells down and across."""
    check_whole("cell", cell, 1)
    height, width = size
    if height % cell or width % cell:
        msg = f"cell must divide the image, got {cell} pixels for one of {height} x {width}."
        raise ValueError(msg)
    return height // cell, width // cell


def _enlarge(cells: torch.Tensor, cell: int) -> torch.Tensor:
    """Give every cell of (..., 1, h, w) its pixels, (..., 1, H, W)."""
    pixels = F.interpolate(cells.flatten(0, -4).float(), scale_factor=float(cell), mode="nearest")
    return pixels.unflatten(0, cells.shape[:-3])
