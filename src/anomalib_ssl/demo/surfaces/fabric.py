# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Twill cloth: threads over and under one another, every one a little different."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo import defects
from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import Array, fractal_noise, value_noise
from anomalib_ssl.demo.shapes import pixel_grid, smoothstep, stroke, wander
from anomalib_ssl.demo.surfaces.base import Surface

PITCH = 8.0
"""Distance between neighbouring threads, in reference pixels."""

WARP = (0.085, 0.14, 0.27)
"""Linear RGB of the threads that run down the picture."""

WEFT = (0.40, 0.40, 0.37)
"""Linear RGB of the threads that run across the picture."""


class Fabric(Surface):
    """A 2/2 twill of blue warp and undyed weft, with uneven yarn."""

    defects = ("missing_thread", "cut", "stain", "loose_thread")

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the yarn and weave it."""
        # The weave is not a perfect grid: rows drift by a part of their pitch.
        self.u = self.u + 1.1 * fractal_noise(self.u / 90, self.v / 90, rng, octaves=2)
        self.v = self.v + 1.1 * fractal_noise(self.u / 90, self.v / 90, rng, octaves=2)
        self._thickness = rng.normal(1, 0.06, (2, 257)).astype(np.float32)
        self._shade = rng.normal(1, 0.07, (2, 257)).astype(np.float32)
        self._dye = rng.normal(1, 0.012, 3).astype(np.float32)
        # Fibres run along the yarn: short across it, long along it.
        self._fibres = (
            fractal_noise(self.u / 1.6, self.v / 5, rng, octaves=2),
            fractal_noise(self.u / 5, self.v / 1.6, rng, octaves=2),
        )
        self._fade = value_noise(self.u / 70, self.v / 70, rng)
        self.material = self._weave(np.zeros_like(self.u))

    def _weave(self, missing: Array) -> Material:
        """Lay warp over weft or weft over warp, whichever is higher.

        Args:
            missing: How far the warp is gone, in [0, 1], (H, W).

        Returns:
            The cloth.
        """
        column, row = np.floor(self.u / PITCH), np.floor(self.v / PITCH)
        across_warp, across_weft = self.u / PITCH - column - 0.5, self.v / PITCH - row - 0.5
        # Along each yarn, "over two, under two" is a wave of four pitches, shifted by one from yarn to yarn.
        warp_wave = np.cos(np.pi / 2 * (self.v / PITCH - column))
        weft_wave = -np.cos(np.pi / 2 * (row + 1 - self.u / PITCH))
        yarns = []
        for index, (number, across, wave) in enumerate(
            ((column, across_warp, warp_wave), (row, across_weft, weft_wave)),
        ):
            which = number.astype(int) % self._thickness.shape[1]
            half = 0.48 * self._thickness[index][which]
            body = np.sqrt(np.clip(1 - np.square(across / half), 0, 1))
            height = np.where(body > 0, 1.7 * body + 1.2 * wave, -4) + 0.25 * self._fibres[index]
            yarns.append((height, self._shade[index][which]))
        (warp, warp_shade), (weft, weft_shade) = yarns
        warp = warp - 8 * missing
        over = smoothstep(-0.35, 0.35, warp - weft)
        height = np.maximum(np.maximum(warp, weft), -3)
        colour = np.where(
            over[..., None] > 0.5,
            np.asarray(WARP, np.float32) * warp_shade[..., None],
            np.asarray(WEFT, np.float32) * weft_shade[..., None],
        )
        fibre = np.where(over > 0.5, self._fibres[0], self._fibres[1])
        depth = smoothstep(-3.2, 0.5, height)
        tone = (1 + 0.10 * fibre + 0.05 * self._fade) * (0.15 + 0.85 * depth)
        albedo = np.clip(colour * self._dye * tone[..., None], 0, 1)
        return Material(albedo.astype(np.float32), height.astype(np.float32), np.full_like(height, 0.01))

    def missing_thread(self, rng: np.random.Generator) -> Material:
        """Leave out one or two neighbouring warp threads over a part of their length."""
        x, y = defects.place(rng)
        row, column = np.unravel_index(np.argmin(np.hypot(self.x - x, self.y - y)), self.x.shape)
        first = np.floor(self.u[row, column] / PITCH)
        count = int(rng.integers(1, 3))
        threads = np.floor(self.u / PITCH) - first
        half = rng.uniform(25, 80)
        along = smoothstep(half, half - 3, np.abs(self.v - self.v[row, column]))
        return self._weave(((threads >= 0) & (threads < count)) * along)

    def cut(self, rng: np.random.Generator) -> Material:
        """Slit the cloth; what lies beneath is dark."""
        return defects.cut(self.material, rng, inside=(0.01, 0.01, 0.012))

    def stain(self, rng: np.random.Generator) -> Material:
        """Spill oil: darker, browner, slightly shiny."""
        return defects.stain(
            self.material,
            rng,
            tint=(0.50, 0.38, 0.22),
            strength=float(rng.uniform(0.6, 1.0)),
            gloss=0.02,
            softness=5.0,
        )

    def loose_thread(self, rng: np.random.Generator) -> Material:
        """Let a stray end of yarn lie on the cloth, with its shadow."""
        x, y = pixel_grid(len(self.x))
        angle = float(rng.uniform(0, np.pi))
        line = wander(rng, defects.place(rng, 50), angle, float(rng.uniform(50, 120)), wobble=0.4)
        width = float(rng.uniform(3, 5))
        yarn = stroke(x, y, line, width, taper=0.05)
        shadow = stroke(x, y, line + np.float32(2.5), width + 2, taper=0.05, softness=2.5)
        colour = np.asarray(WEFT, np.float32) * float(rng.uniform(0.75, 1.25))
        shaded = self.material.painted(0.55 * shadow, (0.0, 0.0, 0.0))
        twist = 0.8 + 0.2 * np.cos((x * np.cos(angle + 0.6) + y * np.sin(angle + 0.6)) * 2.2)
        return shaded.painted(yarn, colour * twist[..., None].astype(np.float32)).raised(
            yarn * (2.5 - self.material.height),
        )
