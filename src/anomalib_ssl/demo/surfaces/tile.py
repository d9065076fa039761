# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Glazed wall tiles with grout between them."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo import defects
from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import fractal_noise
from anomalib_ssl.demo.shapes import blob, smoothstep
from anomalib_ssl.demo.surfaces.base import Surface

PITCH = 78.0
"""Distance between the middles of neighbouring tiles, in reference pixels."""

JOINT = 5.0
"""Width of the joint, in reference pixels."""

GLAZE = (0.14, 0.36, 0.34)
GROUT = (0.46, 0.44, 0.40)
BODY = (0.50, 0.27, 0.16)
"""Linear RGB of the glaze, the grout and the fired clay beneath the glaze."""


class Tile(Surface):
    """Hand-glazed tiles, each of its own shade and never quite level."""

    defects = ("chip", "crack", "missing_grout", "stain")

    def draw(self, rng: np.random.Generator) -> None:
        """Lay the tiles and fill the joints."""
        u, v = self.u, self.v
        column, row = np.round(u / PITCH), np.round(v / PITCH)
        self._number = 1000 * row + column
        across, down = u - column * PITCH, v - row * PITCH
        # Distance to the joint's middle, rounded where two joints meet.
        edge_u, edge_v = PITCH / 2 - np.abs(across), PITCH / 2 - np.abs(down)
        corner = 5.0
        inner = np.hypot(np.clip(corner + JOINT / 2 - edge_u, 0, None), np.clip(corner + JOINT / 2 - edge_v, 0, None))
        self._edge = np.where(inner > 0, corner - inner, np.minimum(edge_u, edge_v) - JOINT / 2)
        wobble = 0.5 * fractal_noise(u / 18, v / 18, rng, octaves=2)
        self._edge = (self._edge + wobble).astype(np.float32)
        self._glazed = smoothstep(-0.7, 0.7, self._edge)
        self._grout_grain = fractal_noise(u / 2.5, v / 2.5, rng, octaves=3)

        tile = (row.astype(int) % 16, column.astype(int) % 16)
        shade = rng.normal(1, 0.06, (16, 16)).astype(np.float32)[tile]
        tint = rng.normal(1, 0.025, (16, 16, 3)).astype(np.float32)[tile]
        tilt = rng.normal(0, 0.012, (16, 16, 2)).astype(np.float32)[tile]
        cloud = fractal_noise(u / 26, v / 26, rng, octaves=4)
        specks = smoothstep(1.15, 1.5, fractal_noise(u / 2.6, v / 2.6, rng, octaves=2))
        # Glaze runs off the edges while it melts and lets the clay shine through.
        thin = np.exp(-np.clip(self._edge, 0, None) / 2.2)
        glaze = np.asarray(GLAZE, np.float32) * tint * (shade * (1 + 0.09 * cloud) * (1 - 0.4 * specks))[..., None]
        glaze = glaze + (0.35 * thin)[..., None] * (np.asarray(BODY, np.float32) - glaze)
        grout = np.asarray(GROUT, np.float32) * (1 + 0.10 * self._grout_grain)[..., None]
        weight = self._glazed[..., None]
        albedo = np.clip(weight * glaze + (1 - weight) * grout, 0, 1).astype(np.float32)
        pillow = 2.4 * (1 - np.exp(-np.clip(self._edge, 0, None) / 3.5))
        level = tilt[..., 0] * across + tilt[..., 1] * down + 0.10 * cloud
        height = np.where(self._edge > 0, pillow + level, 0.25 * self._grout_grain).astype(np.float32)
        self.material = Material(albedo, height, 0.42 * self._glazed, shininess=70)

    def chip(self, rng: np.random.Generator) -> Material:
        """Break a flake off the edge of a tile, down to the clay."""
        x, y = defects.place(rng, 30)
        # From a random place, go to the nearest spot of a tile's edge.
        distance = np.hypot(self.x - x, self.y - y) + 20 * np.abs(self._edge - 2)
        row, column = np.unravel_index(np.argmin(distance), distance.shape)
        centre = (float(self.x[row, column]), float(self.y[row, column]))
        depth = blob(self.x, self.y, rng, centre, float(rng.uniform(8, 17)), aspect=1.4, ragged=0.35)
        flake = smoothstep(-0.8, 0.8, depth) * self._glazed * (self._number == self._number[row, column])
        rough = fractal_noise(self.x / 4, self.y / 4, rng)
        colour = np.asarray(BODY, np.float32) * (1 + 0.14 * rough)[..., None]
        hollow = flake * (1.2 + np.clip(depth, 0, 6) * 0.25 - 0.35 * rough)
        return self.material.painted(flake, np.clip(colour, 0, 1), gloss=0).raised(-hollow)

    def crack(self, rng: np.random.Generator) -> Material:
        """Crack the glaze."""
        return defects.crack(self.material, rng, inside=(0.04, 0.04, 0.038), jagged=1.8, width=(0.9, 1.9))

    def missing_grout(self, rng: np.random.Generator) -> Material:
        """Let the grout fall out of a stretch of a joint."""
        x, y = defects.place(rng, 30)
        distance = np.hypot(self.x - x, self.y - y) + 20 * np.clip(self._edge + 1, 0, None)
        row, column = np.unravel_index(np.argmin(distance), distance.shape)
        centre = (float(self.x[row, column]), float(self.y[row, column]))
        depth = blob(self.x, self.y, rng, centre, float(rng.uniform(14, 34)), ragged=0.3)
        gap = smoothstep(-1.5, 1.5, depth + 2.5 * self._grout_grain) * smoothstep(0.3, -0.8, self._edge)
        dust = np.asarray((0.055, 0.05, 0.045), np.float32) * (1 + 0.3 * self._grout_grain)[..., None]
        return self.material.painted(gap, np.clip(dust, 0, 1)).raised(-3.5 * gap)

    def stain(self, rng: np.random.Generator) -> Material:
        """Leave soap scum or rust water on glaze and grout."""
        return defects.stain(
            self.material,
            rng,
            tint=(0.75, 0.45, 0.22),
            strength=float(rng.uniform(0.5, 0.85)),
            gloss=0.1,
        )
