# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The settings of a paste that are chosen among: how large it is, and how strongly its colours change."""

from dataclasses import replace
from itertools import product

from anomalib_ssl.augmentations import Augmentation, BlendedPatch, CutPaste, CutPasteScar

SIZES = (1.0, 0.5, 0.25)
"""Sides of a paste as a share of those given: none is larger, so all fit into an image that the given ones fit into."""

STRONG_JITTER = 0.4
"""Strength of the colour jitter of pastes that differ clearly from what is around; CutPaste's paper has 0.1."""

SMALLEST_AREA, SMALLEST_SIDE = 1e-6, 0.01
"""Least area of a patch and least side of a blended one, as shares of the image's."""


def settings(given: Augmentation) -> list[Augmentation]:
    """Make settings of a paste out of the given one: three sizes, each weak and strong.

    What weak and strong mean is the colour jitter of patches and scars, and the blending of blended patches: Poisson's,
    which hides the border, or a soft border alone. That there is a grid at all is this package's choice; the paper
    tunes by gradients.

    Args:
        given: A :class:`~anomalib_ssl.augmentations.CutPaste`, :class:`~anomalib_ssl.augmentations.CutPasteScar` or
            :class:`~anomalib_ssl.augmentations.BlendedPatch`.

    Returns:
        The given one, then the others.

    Raises:
        TypeError: If it is none of these.

    Example:
        >>> from anomalib_ssl.augmentations import CutPaste
        >>> [(one.area, one.jitter) for one in settings(CutPaste(area=(0.16, 0.32)))][:4]
        [((0.16, 0.32), 0.1), ((0.16, 0.32), 0.4), ((0.04, 0.08), 0.1), ((0.04, 0.08), 0.4)]
    """
    if isinstance(given, CutPaste):
        found: list[Augmentation] = [
            replace(given, area=_shares(given.area, size**2, SMALLEST_AREA), jitter=jitter)
            for size, jitter in product(SIZES, (given.jitter, STRONG_JITTER))
        ]
    elif isinstance(given, CutPasteScar):
        found = [
            replace(given, width=_pixels(given.width, size), length=_pixels(given.length, size), jitter=jitter)
            for size, jitter in product(SIZES, (given.jitter, STRONG_JITTER))
        ]
    elif isinstance(given, BlendedPatch):
        found = [
            replace(
                given,
                height=_shares(given.height, size, SMALLEST_SIDE),
                width=_shares(given.width, size, SMALLEST_SIDE),
                blend=blend,
            )
            for size, blend in product(SIZES, ("poisson", "soft"))
        ]
    else:
        msg = f"given must be a CutPaste, a CutPasteScar or a BlendedPatch, got {given!r}."
        raise TypeError(msg)
    return list(dict.fromkeys([given, *found]))


def _pixels(limits: tuple[int, int], size: float) -> tuple[int, int]:
    return max(round(limits[0] * size), 1), max(round(limits[1] * size), 1)


def _shares(limits: tuple[float, float], factor: float, least: float) -> tuple[float, float]:
    return max(limits[0] * factor, least), max(limits[1] * factor, least)
