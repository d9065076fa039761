# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a surface is made of: colour, relief and gloss, per pixel."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from anomalib_ssl.demo.noise import Array

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Material:
    """A surface before any light falls on it.

    Defects change a material and the camera photographs it, so that a defect is lit like the surface around it.

    Attributes:
        albedo: Linear RGB reflectance in [0, 1], (H, W, 3).
        height: Relief in reference pixels, positive towards the camera, (H, W).
        gloss: Strength of mirror-like reflection in [0, 1], (H, W).
        shininess: Narrowness of highlights (Blinn-Phong exponent).
    """

    albedo: Array
    height: Array
    gloss: Array
    shininess: float = 20.0

    def painted(self, coverage: Array, colour: Colour | Array, gloss: float | None = None) -> Material:
        """Blend towards another colour, and gloss, where ``coverage`` says so.

        Args:
            coverage: Weight of the new colour in [0, 1], (H, W).
            colour: Linear RGB, one colour or (H, W, 3).
            gloss: Gloss of the painted part; unchanged by default.

        Returns:
            The painted material.
        """
        weight = np.clip(coverage, 0, 1)
        albedo = self.albedo + weight[..., None] * (np.asarray(colour, np.float32) - self.albedo)
        shine = self.gloss if gloss is None else self.gloss + weight * (np.float32(gloss) - self.gloss)
        return replace(self, albedo=albedo.astype(np.float32), gloss=shine.astype(np.float32))

    def raised(self, relief: Array) -> Material:
        """Add relief in reference pixels, (H, W); negative values dig in."""
        return replace(self, height=(self.height + relief).astype(np.float32))
