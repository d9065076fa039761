# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Where patches come from, where they go, and the windows in which they are blended."""

from collections.abc import Iterator

import torch

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.blended_patch.objects import coverage
from anomalib_ssl.augmentations.sampling import Shape

HOST = ("height", "width", "factor", "outline", "used")
"""Parameters that live on the host by design: they decide what is computed, known without asking the device."""

DEVICE = ("image", "wave", "phase", "source", "target")
"""The other parameters."""

MARGIN = 4
"""Pixels around a patch that blending looks at."""

_SMALLEST = 32
"""Side in pixels of the smallest windows. The others are 1.5, 2, 3, 4, 6, ... times as large."""


def by_size(parameters: Parameters, number: int) -> Iterator[tuple[torch.Tensor, int]]:
    """Sort the patches of a batch by size, so that little is computed in vain.

    Sizes of windows do not depend on what else is in a batch, so that a patch looks the same in any.

    Args:
        parameters: What :meth:`BlendedPatch.sample` returned.
        number: Which of an image's patches.

    Yields:
        Numbers of images (R,), on the host, and the side of their windows in pixels.
    """
    longer = parameters["height"][:, number].maximum(parameters["width"][:, number]) + 2 * MARGIN
    used = parameters["used"][:, number]
    largest, smaller, side = int(longer.max()), 0, _SMALLEST
    while smaller < largest:
        rows = (used & (longer > smaller) & (longer <= side)).nonzero().flatten()
        if len(rows):
            yield rows, side
        smaller = side
        # A power of two is followed by one and a half times itself.
        side = side * 3 // 2 if side & (side - 1) == 0 else side * 4 // 3


def patches_of(parameters: Parameters, number: int, rows: torch.Tensor, device: torch.device) -> Parameters:
    """Pick one patch of each of some images, and move it to the device.

    Args:
        parameters: What :meth:`BlendedPatch.sample` returned.
        number: Which of an image's patches.
        rows: Numbers of images (R,), on the host.
        device: Where the images are.

    Returns:
        The parameters of these patches, without the dimension N.
    """
    picked = {name: parameters[name][rows, number].to(device, non_blocking=device.type != "cpu") for name in HOST}
    there = rows.to(device, non_blocking=device.type != "cpu")
    others = {name: parameters[name].to(device)[there, number] for name in DEVICE}
    return {**picked, **others, "target_image": there}


def place(
    patch: Parameters,
    shape: Shape,
    sums: torch.Tensor | None,
    least: tuple[float, float],
) -> Parameters:
    """Take the first of the drawn places that lies on the object.

    Args:
        patch: What :func:`patches_of` returned.
        shape: Shape (B, C, H, W) of the images.
        sums: Sums over areas of the object masks, or none for the first place.
        least: Shares of source and target that the object has to cover.

    Returns:
        Shape (R,) each: ``source_image``; ``source_top``, ``source_left``, ``top`` and ``left`` in pixels; ``found``,
        whether there is such a place.
    """
    batch, (rows, columns) = shape[0], shape[-2:]
    image = patch["target_image"].unsqueeze(1)
    source_image = (image + patch["image"].unsqueeze(1)) % batch
    height, width, factor = (patch[name].unsqueeze(1) for name in ("height", "width", "factor"))
    source_height = (height / factor).round().long().clamp(min=1, max=rows)
    source_width = (width / factor).round().long().clamp(min=1, max=columns)
    found = torch.ones_like(image, dtype=torch.bool)
    result = {"source_image": source_image}
    for name, where, tall, wide, share in (
        ("source_", source_image, source_height, source_width, least[0]),
        ("", image, height, width, least[1]),
    ):
        draws = patch["source" if name else "target"]
        top = _whole(draws[..., 0], rows - tall)
        left = _whole(draws[..., 1], columns - wide)
        first = torch.zeros_like(image)
        if sums is not None:
            fits = coverage(sums, where, top, left, tall, wide) >= share
            first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
            found = found & fits.gather(1, first)
        result |= {f"{name}top": top.gather(1, first), f"{name}left": left.gather(1, first)}
    return {name: value.squeeze(1) for name, value in {**result, "found": found}.items()}


def window_of(patch: Parameters, side: int, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (R, h) and columns (R, w) of the images in which patches are blended.

    Args:
        patch: ``top`` and ``left`` of patches, shape (R,).
        side: Side of the windows in pixels; the images' where it is less.
        shape: Shape (B, C, H, W) of the images.
    """

    def along(start: torch.Tensor, length: int) -> torch.Tensor:
        extent = min(side, length)
        first = (start - MARGIN).clamp(0, length - extent)
        return first.unsqueeze(1) + torch.arange(extent, device=start.device)

    return along(patch["top"], shape[-2]), along(patch["left"], shape[-1])


def source_of(patch: Parameters, rows: torch.Tensor, columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where in the source the pixels of a window lie.

    Args:
        patch: Parameters of patches, shape (R,) each.
        rows: Rows of the window, (R, h).
        columns: Its columns, (R, w).

    Returns:
        Rows (R, h) and columns (R, w) in pixels, fractions among them.
    """
    factor = patch["factor"].unsqueeze(1)

    def along(position: torch.Tensor, start: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        # The outer edges of the first pixels meet.
        return (position - start.unsqueeze(1) + 0.5) / factor + source.unsqueeze(1) - 0.5

    return along(rows, patch["top"], patch["source_top"]), along(columns, patch["left"], patch["source_left"])


def _whole(draw: torch.Tensor, most: torch.Tensor) -> torch.Tensor:
    """Map draws from [0, 1) to whole numbers from 0 to ``most``."""
    return (draw * (most + 1)).long().minimum(most)
