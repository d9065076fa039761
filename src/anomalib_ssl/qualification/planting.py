# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Defects of graded size and contrast, planted in sound images."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from anomalib_ssl.augmentations.pixels import from_unit, to_unit
from anomalib_ssl.checks import check_choices, check_number, check_whole
from anomalib_ssl.qualification.families import FAMILIES, Family, Scene

LEAST_SIDE = 16
"""Smallest side of an image in pixels."""

SMALLEST = 2.0
"""Smallest size in pixels."""

LARGEST = 0.5
"""Largest size, as a share of the image's shorter side."""

DEFAULT_SIZES = (3.0, 0.01, 0.32, 6)
"""Smallest default size in pixels and as a share of the shorter side, of which the larger one counts; largest share;
how many."""

TRIES = 25
"""Places and shapes that are drawn for a defect; the first at which its contrast can be reached is taken."""

STEPS = 6
"""How often the strength is corrected for what the limits of [0, 1] and rounding take away."""

TOLERANCE = 0.1
"""Share by which a contrast may miss its grade."""


@dataclass(frozen=True)
class Defect:
    """What is to be planted.

    Args:
        family: Name of its family.
        size: Longest extent in pixels.
        contrast: Mean absolute change inside the mask, of values in [0, 1].
        number: Its number within the family.
    """

    family: str
    size: float
    contrast: float
    number: int


class Planted(NamedTuple):
    """A defect in its image.

    Args:
        defect: What it is.
        source: Index of the sound image.
        image: The changed image (3, H, W), uint8.
        mask: Its pixels (H, W), boolean.
        contrast: Mean absolute change inside the mask, as measured, of values in [0, 1].
    """

    defect: Defect
    source: int
    image: torch.Tensor
    mask: torch.Tensor
    contrast: float


def default_sizes(side: int) -> tuple[float, ...]:
    """Choose sizes in pixels for images with this shorter side, evenly spaced on a logarithmic scale.

    Example:
        >>> default_sizes(256)
        (3.0, 5.8, 11.2, 21.8, 42.2, 81.9)
    """
    pixels, smallest, largest, count = DEFAULT_SIZES
    first, last = np.log([max(pixels, smallest * side), largest * side]).tolist()
    # Rounded down, so that the largest one keeps its limit.
    return tuple(float(np.floor(size * 10) / 10) for size in np.exp(np.linspace(first, last, int(count))) + 1e-9)


def grid(
    families: Sequence[str], sizes: Sequence[float], contrasts: Sequence[float], repeats: int, side: int
) -> list[Defect]:
    """List the defects to be planted: in each family every size with every contrast, so and so often.

    Args:
        families: Names of families.
        sizes: Longest extents in pixels.
        contrasts: Mean absolute changes, in (0, 1].
        repeats: Defects of each size, contrast and family.
        side: Shorter side in pixels of the smallest image.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of its range, or a defect is too large for the images.
    """
    check_choices("families", families, FAMILIES)
    check_whole("repeats", repeats, 1)
    for name, values in (("sizes", sizes), ("contrasts", contrasts)):
        if len(values) < 1 or len(set(values)) < len(values):
            msg = f"{name} must be one or more different numbers, got {list(values)!r}."
            raise ValueError(msg)
    if side < LEAST_SIDE:
        msg = f"images must have sides of at least {LEAST_SIDE} pixels to plant defects in, got {side}."
        raise ValueError(msg)
    for contrast in contrasts:
        check_number("contrasts", contrast, 0.01, 0.9)
    for size in sizes:
        check_number("sizes", size, SMALLEST)
        if size > LARGEST * side:
            msg = (
                f"sizes must be at most half the shorter side of the images, which is {side} pixels in the smallest, "
                f"got {size:g}."
            )
            raise ValueError(msg)
    return [
        Defect(family, float(size), float(contrast), number)
        for family in families
        for number, (_, contrast, size) in enumerate(
            (repeat, contrast, size) for repeat in range(repeats) for contrast in contrasts for size in sizes
        )
    ]


def plant(images: Sequence[torch.Tensor], defects: Sequence[Defect], seed: int = 0) -> Iterator[Planted | None]:
    """Plant each defect in one of the images: all of them in turn, in an order drawn anew for each turn and family.

    A defect depends on its own description, the images and the seed alone, not on what else is planted.

    Args:
        images: Sound images (3, H, W), uint8, of any sizes.
        defects: What to plant.
        seed: Seed.

    Yields:
        For each defect, the image with it; None where none of the places tried gives it its contrast, as where a part
        shall be missing that is not there.

    Example:
        >>> image = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        >>> [planted] = plant([image], [Defect("stain", 10, 0.1, 0)])
        >>> bool(planted.mask.any()), abs(planted.contrast - 0.1) <= 0.01
        (True, True)
        >>> torch.equal(torch.where(planted.mask, image, planted.image), image)
        True
    """
    for defect in defects:
        turn, place = divmod(defect.number, len(images))
        order = torch.randperm(len(images), generator=_generator(seed, defect.family, turn)).tolist()
        source, next_ = order[place], order[(place + 1) % len(order)]
        image, other = images[source], images[next_]
        other = other if other.shape == image.shape else image
        generator = _generator(seed, defect.family, defect.size, defect.contrast, defect.number)
        scene = Scene(to_unit(image).unsqueeze(0), to_unit(other).unsqueeze(0), defect.size, generator)
        yield _planted(scene, image, defect, source)


def _generator(*identity: object) -> torch.Generator:
    return torch.Generator().manual_seed(zlib.crc32("/".join(map(str, identity)).encode()))


def _planted(scene: Scene, image: torch.Tensor, defect: Defect, source: int) -> Planted | None:
    family = FAMILIES[defect.family]
    for _ in range(TRIES):
        changed, mask = family.make(scene)
        rows, columns = (mask[0, 0].any(dim=dim).nonzero().flatten() for dim in (1, 0))
        if not len(rows):
            continue
        box = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        inside = mask[0, 0][box[1:]]
        result, contrast = _graded(scene.image[0][box], changed[0][box], inside, defect.contrast, family)
        if abs(contrast - defect.contrast) <= TOLERANCE * defect.contrast:
            whole = image.clone()
            whole[box] = torch.where(inside, result, image[box])
            return Planted(defect, source, whole, mask[0, 0], contrast)
    return None


def _graded(
    image: torch.Tensor, changed: torch.Tensor, mask: torch.Tensor, contrast: float, family: Family
) -> tuple[torch.Tensor, float]:
    """Scale a change (3, H, W) to a contrast.

    Returns:
        Pixels (3, H, W), uint8, and the contrast that they have.
    """
    change = changed - image
    strength, measured = 1.0, float(change.abs()[:, mask].mean())
    result = from_unit(image, torch.uint8)
    for _ in range(STEPS):
        if measured <= 0:
            break
        strength = min(strength * contrast / measured, family.strongest)
        result = from_unit((image + strength * change).clamp(0, 1), torch.uint8)
        measured = float((to_unit(result) - image).abs()[:, mask].mean())
        if abs(measured - contrast) <= TOLERANCE / 4 * contrast:
            break
    return result, measured
