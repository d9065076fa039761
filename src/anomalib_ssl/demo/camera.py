# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A camera and a lamp, set up slightly differently for every photograph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import Array
from anomalib_ssl.demo.shapes import REFERENCE, pixel_grid

AMBIENT = 0.35
"""Part of the light that comes evenly from everywhere."""


@dataclass(frozen=True)
class Camera:
    """One setting of camera and lamp; the same setting photographs a surface before and after its damage.

    Attributes:
        lamp: Position of the lamp (x, y, z) in reference pixels; z is the distance from the surface.
        exposure: Factor on all light.
        balance: Factor per colour channel (R, G, B).
        blur: Standard deviation of the lens blur, in pixels of the picture.
        noise: Sensor noise in standard deviations, (image_size, image_size, 3).
    """

    lamp: tuple[float, float, float]
    exposure: float
    balance: Array
    blur: float
    noise: Array

    @classmethod
    def sample(cls, rng: np.random.Generator, image_size: int) -> Camera:
        """Set the camera up as an inspection rig would be: always nearly, never exactly, the same.

        Args:
            rng: Source of the setting and of the sensor noise.
            image_size: Side of the picture in pixels.

        Returns:
            The camera.
        """
        x, y, z = rng.normal((-40, -60, 300), (15, 15, 20))
        return cls(
            lamp=(float(x), float(y), float(z)),
            exposure=float(rng.normal(1, 0.04)),
            balance=rng.normal(1, 0.008, 3).astype(np.float32),
            blur=float(rng.uniform(0.35, 0.6)) * image_size / REFERENCE,
            noise=rng.standard_normal((image_size, image_size, 3)).astype(np.float32),
        )

    def photograph(self, material: Material) -> npt.NDArray[np.uint8]:
        """Light a material and take its picture.

        Args:
            material: Square surface of at least ``image_size`` pixels a side.

        Returns:
            sRGB picture, (image_size, image_size, 3).
        """
        size = len(self.noise)
        light: Array = np.clip(self._radiance(material) * self.balance * self.exposure, 0, 1)
        if len(light) != size:
            light = _shrunk(light, size)
        light = ndimage.gaussian_filter(light, (self.blur, self.blur, 0))
        # Photon noise grows with the square root of the light; the constant part is read-out noise.
        noisy = light + self.noise * np.sqrt(1e-6 + 1.2e-4 * light)
        encoded = np.clip(noisy, 0, 1) ** (1 / 2.2)
        return np.round(encoded * 255).astype(np.uint8)

    def _radiance(self, material: Material) -> Array:
        """Diffuse and mirror-like reflection of a near lamp, seen from straight above; linear RGB (H, W, 3)."""
        resolution = len(material.height)
        x, y = pixel_grid(resolution)
        slope_y, slope_x = np.gradient(material.height, REFERENCE / resolution)
        normal = _unit(np.stack([-slope_x, -slope_y, np.ones_like(x)], axis=-1))
        path = np.stack([self.lamp[0] - x, self.lamp[1] - y, np.full_like(x, self.lamp[2])], axis=-1)
        # Fall-off with distance, relative to the middle of the picture so that it does not act as an exposure.
        middle = np.square(np.asarray(self.lamp) - (REFERENCE / 2, REFERENCE / 2, 0)).sum()
        fall_off = np.sqrt(middle / np.square(path).sum(-1))
        to_lamp = _unit(path)
        halfway = _unit(to_lamp + np.array([0, 0, 1], np.float32))
        diffuse = np.clip((normal * to_lamp).sum(-1), 0, None) / 0.8
        mirror = np.clip((normal * halfway).sum(-1), 0, None) ** material.shininess
        shade = (AMBIENT * _openness(material.height, resolution) + (1 - AMBIENT) * diffuse) * fall_off
        return material.albedo * shade[..., None] + (material.gloss * mirror * fall_off)[..., None]


def _openness(height: Array, resolution: int) -> Array:
    """How much of the surrounding light reaches a point: less in pits and gaps than on ridges, (H, W)."""
    around = ndimage.gaussian_filter(height, 4 * resolution / REFERENCE)
    return np.clip(1 + 0.5 * np.clip(height - around, None, 0), 0.15, 1)


def _shrunk(light: Array, size: int) -> Array:
    """Average the light that falls on each of ``size`` by ``size`` sensor pixels, (size, size, 3)."""
    channels = torch.from_numpy(light).permute(2, 0, 1)
    return torch.nn.functional.adaptive_avg_pool2d(channels, size).permute(1, 2, 0).contiguous().numpy()


def _unit(vectors: npt.NDArray[Any]) -> Array:
    """Scale vectors in the last dimension to length 1."""
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
