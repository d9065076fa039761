# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What every surface of the demo has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.shapes import REFERENCE, pixel_grid


class Surface(ABC):
    """One specimen of a surface, sound, and able to show what each kind of damage makes of it.

    A specimen draws everything random about itself once. Damage is drawn from a generator of its own and returns a new
    material, so that a damaged specimen differs from its sound twin by the damage alone.

    Args:
        rng: Source of the specimen.
        resolution: Side of its material in pixels.
    """

    defects: ClassVar[tuple[str, ...]]
    """Kinds of damage; each is a method that takes a generator and returns a material."""

    pose: ClassVar[tuple[float, float, float]] = (2.5, 0.03, 512.0)
    """Limits of how specimens vary in position: rotation in degrees, scale, shift in reference pixels."""

    material: Material

    def __init__(self, rng: np.random.Generator, resolution: int = REFERENCE) -> None:
        self.x, self.y = pixel_grid(resolution)
        rotation, scale, shift = self.pose
        angle = np.deg2rad(rng.uniform(-rotation, rotation))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        zoom = np.float32(rng.uniform(1 - scale, 1 + scale))
        middle = REFERENCE / 2
        right, down = rng.uniform(-shift, shift, 2).astype(np.float32)
        dx, dy = (self.x - middle) * zoom, (self.y - middle) * zoom
        self.angle = float(angle)
        """Direction of the surface's own u axis in the picture, in radians."""
        self.u = dx * cos + dy * sin + right
        self.v = dy * cos - dx * sin + down
        self.draw(rng)

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> None:
        """Set ``material`` from the coordinates ``u`` and ``v`` on the surface, in reference pixels."""

    def damaged(self, defect: str, rng: np.random.Generator) -> Material:
        """Show what the specimen looks like with a defect.

        Args:
            defect: One of ``defects``.
            rng: Source of the defect.

        Returns:
            The material of the damaged specimen.

        Raises:
            ValueError: If this surface has no such defect.
        """
        if defect not in self.defects:
            msg = f"defect='{defect}' is unknown for {type(self).__name__}; choose from {', '.join(self.defects)}"
            raise ValueError(msg)
        material: Material = getattr(self, defect)(rng)
        return material
