# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of single specimens: damaged, sound, and the mask of the difference."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from anomalib_ssl.checks import check_choice
from anomalib_ssl.demo.camera import Camera
from anomalib_ssl.demo.shapes import REFERENCE
from anomalib_ssl.demo.surfaces import SURFACES

Picture = npt.NDArray[np.uint8]

CHANGE = 6
"""Least difference, in levels of 255 in any channel, that counts as a visible change of a pixel."""

MIN_AREA = 0.002
"""Least part of the picture that a defect must change visibly."""

MIN_CONTRAST = 12.0
"""Least mean difference, in levels of 255, over the pixels that a defect changes visibly."""

ATTEMPTS = 50
"""Draws of a defect before giving up; rarely is one too faint or too small."""


@dataclass(frozen=True)
class Specimen:
    """A photographed specimen and its sound twin, taken with the same camera, lamp and sensor noise.

    Attributes:
        image: sRGB picture, (H, W, 3).
        twin: The same specimen without its defect, (H, W, 3); equal to ``image`` where there is no defect.
        mask: Where the two differ, 255, and 0 elsewhere, (H, W).
    """

    image: Picture
    twin: Picture
    mask: Picture


def photograph(surface: str, defect: str | None, seed: tuple[int, ...], image_size: int = REFERENCE) -> Specimen:
    """Make one specimen of a surface and take its picture.

    Args:
        surface: One of ``SURFACES``.
        defect: One of the surface's ``defects``, or ``None`` for a sound specimen.
        seed: Non-negative numbers that identify the specimen; surface and defect are mixed in.
        image_size: Side of the picture in pixels.

    Returns:
        The specimen.

    Raises:
        ValueError: If there is no such surface, or it has no such defect.
        RuntimeError: If no draw of the defect could be seen.
    """
    check_choice("surface", surface, SURFACES)
    rng = np.random.default_rng([zlib.crc32(f"{surface}/{defect or 'good'}".encode()), *seed])
    # Below the reference size, fine threads would alias: draw larger, let the camera shrink.
    specimen = SURFACES[surface](rng, max(image_size, REFERENCE))
    camera = Camera.sample(rng, image_size)
    twin = camera.photograph(specimen.material)
    if defect is None:
        return Specimen(twin, twin, np.zeros(twin.shape[:2], np.uint8))
    for _ in range(ATTEMPTS):
        image = camera.photograph(specimen.damaged(defect, rng))
        difference = np.abs(image.astype(np.int16) - twin).max(axis=2)
        changed = difference >= CHANGE
        if changed.mean() >= MIN_AREA and difference[changed].mean() >= MIN_CONTRAST:
            return Specimen(image, twin, _filled(changed))
    msg = f"No visible defect '{defect}' of surface '{surface}' in {ATTEMPTS} draws at image_size={image_size}"
    raise RuntimeError(msg)


def _filled(changed: npt.NDArray[np.bool_]) -> Picture:
    """Close the gaps in a changed region: a dent also covers the line where it happens to look unchanged."""
    reach = max(1, round(3 * len(changed) / REFERENCE))
    offset = np.arange(-reach, reach + 1)
    disc = np.hypot(offset[:, None], offset) <= reach
    # Closing erodes from the border inwards unless the picture goes on there.
    closed = ndimage.binary_closing(np.pad(changed, reach, mode="edge"), disc)[reach:-reach, reach:-reach]
    return ndimage.binary_fill_holes(closed).astype(np.uint8) * np.uint8(255)
