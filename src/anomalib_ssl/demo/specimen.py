# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of single specimens: damaged, sound, and the mask of the difference."""

import copy
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from anomalib_ssl.checks import check_choice
from anomalib_ssl.demo.surface import MARGIN, REFERENCE, Array, Surface
from anomalib_ssl.demo.surfaces import SURFACES

CHANGE, MIN_AREA, MIN_CONTRAST = 6, 0.002, 12
"""Least visible difference of a pixel, in levels of 255 in any channel; what part of the picture a defect has to change
visibly; and by how much in the mean."""


@dataclass(frozen=True)
class Specimen:
    """A photographed specimen and its sound twin, taken with the same camera, lamp and sensor noise.

    Attributes:
        image: sRGB picture, (H, W, 3).
        twin: The same specimen without its defect, (H, W, 3); equal to ``image`` where there is no defect.
        mask: Where the two differ, 255, and 0 elsewhere, (H, W).
    """

    image: Array
    twin: Array
    mask: Array


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
    # Drawn larger, fine threads do not alias: the camera averages what falls on each of its pixels.
    sound = SURFACES[surface](rng, max(image_size, 3 * REFERENCE // 2))
    camera = Camera(rng, image_size)
    twin = camera.picture(sound)
    if defect is None:
        return Specimen(twin, twin, np.zeros(twin.shape[:2], np.uint8))
    check_choice(f"defect of {surface}", defect, sound.defects)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, [2 * max(1, round(3 * image_size / REFERENCE)) + 1] * 2)
    for _ in range(50):  # rarely is a defect too faint or too small
        damaged = copy.copy(sound)
        getattr(damaged, defect)()
        image = camera.picture(damaged)
        difference = cv2.absdiff(image, twin).max(axis=2)
        changed = difference >= CHANGE
        if changed.mean() >= MIN_AREA and difference[changed].mean() >= MIN_CONTRAST:
            # A dent also covers the line where it happens to look unchanged.
            mask = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, disc)
            outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            return Specimen(image, twin, cv2.drawContours(mask, outlines, -1, 255, cv2.FILLED))
    msg = f"No visible defect '{defect}' of surface '{surface}' in 50 draws at image_size={image_size}"
    raise RuntimeError(msg)


class Camera:
    """A camera and a lamp, as in an inspection rig always nearly, never exactly, set up the same."""

    def __init__(self, rng: np.random.Generator, image_size: int) -> None:
        self._lamp = rng.normal((-40, -60, 300), (15, 15, 20)).astype(np.float32)
        self._gain = (rng.normal(1, 0.04) * rng.normal(1, 0.008, 3)).astype(np.float32)
        self._blur = rng.uniform(0.2, 0.45) * image_size / REFERENCE
        self._noise = rng.standard_normal((image_size, image_size, 3), np.float32)

    def picture(self, surface: Surface) -> Array:
        """Light a surface by a near lamp and take its picture from straight above, sRGB (image_size, image_size, 3)."""
        height, scale = surface.height, 0.5 * surface.scale
        right, down = (cv2.Sobel(height, cv2.CV_32F, 1 - i, i, ksize=1, scale=scale) for i in (0, 1))
        x, y, z = self._lamp[0] - surface.x, self._lamp[1] - surface.y, self._lamp[2]
        distance, steep = np.sqrt(x * x + y * y + z * z), np.sqrt(1 + right * right + down * down)
        slope, margin = right * x + down * y, round(MARGIN * surface.scale)
        diffuse = np.maximum(z - slope, 0) / (steep * distance)
        # A normal halfway between lamp and camera mirrors the one into the other.
        mirror = np.maximum(z + distance - slope, 0) / (steep * np.sqrt(2 * distance * (distance + z)))
        # Less of the surrounding light reaches pits and gaps than ridges.
        ambient = np.clip(1 + 0.5 * np.minimum(height - surface.blur(height, 4), 0), 0.15, 1)
        shine = surface.gloss * mirror**surface.shininess
        light = surface.albedo * (0.35 * ambient + 0.8 * diffuse)[..., None] + shine[..., None]
        light = surface.moved(light * (350 / distance)[..., None], *surface.pose)
        light = np.clip(light[margin:-margin, margin:-margin] * self._gain, 0, 1)
        light = cv2.resize(light, self._noise.shape[:2], interpolation=cv2.INTER_AREA)
        light = cv2.GaussianBlur(light, (0, 0), self._blur)
        # Photon noise grows with the square root of the light; the constant part is read-out noise.
        light = light + self._noise * np.sqrt(1e-6 + 1.2e-4 * light)
        return np.round(np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
