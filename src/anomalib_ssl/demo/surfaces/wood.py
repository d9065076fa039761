# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Planed wood: growth rings cut lengthwise, pores and fibres."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo import defects
from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import Array, fractal_noise, value_noise
from anomalib_ssl.demo.shapes import blob, smoothstep
from anomalib_ssl.demo.surfaces.base import Surface

EARLY = (0.55, 0.33, 0.16)
"""Linear RGB of the pale wood that grows in spring."""

LATE = (0.27, 0.125, 0.048)
"""Linear RGB of the dark wood that ends a ring."""

RING = 15.0
"""Mean width of a ring on the board, in reference pixels."""


class Wood(Surface):
    """An oak board without a knot, its grain from left to right."""

    defects = ("knot", "crack", "scratch", "hole")

    def draw(self, rng: np.random.Generator) -> None:
        """Draw how the rings run, then plane the board."""
        u, v = self.u, self.v
        self._drift = 1.5 * fractal_noise(u / 260, v / 60, rng, octaves=3)
        self._fibre = value_noise(u / 45, v / 1.3, rng, period=512)
        pores = value_noise(u / 11, v / 0.9, rng, period=512)
        self._pores = smoothstep(1.0, 1.8, pores)
        self._cloud = fractal_noise(u / 120, v / 40, rng, octaves=3)
        self._ring_width = rng.uniform(0.25, 1.0, 256).astype(np.float32)
        self._tint = rng.normal(1, 0.012, 3).astype(np.float32)
        self._depth = float(rng.normal(1, 0.08))
        self.material = self._plane(v / RING)

    def _plane(self, growth: Array) -> Material:
        """Cut the board.

        Args:
            growth: Age of the wood at each pixel, in rings, before the drift of the grain, (H, W).

        Returns:
            The planed board.
        """
        age = growth + self._drift
        ring = np.floor(age)
        phase = age - ring
        strength = self._ring_width[ring.astype(int) % len(self._ring_width)]
        late = smoothstep(0.25, 0.92, phase) * smoothstep(1.0, 0.93, phase) * strength
        # Pores of oak lie in the spring wood.
        pores = self._pores * (1 - 0.6 * late)
        mix = np.clip(0.62 * late * self._depth + 0.10 * self._fibre + 0.10 * self._cloud + 0.12, 0, 1)[..., None]
        albedo = (1 - mix) * np.asarray(EARLY, np.float32) + mix * np.asarray(LATE, np.float32)
        albedo = albedo * self._tint * (1 - 0.45 * pores)[..., None]
        height = 0.15 * self._fibre - 0.7 * pores + 0.25 * late
        return Material(
            np.clip(albedo, 0, 1).astype(np.float32),
            height.astype(np.float32),
            np.full_like(height, 0.05),
            shininess=12,
        )

    def knot(self, rng: np.random.Generator) -> Material:
        """Grow a branch out of the board: grain that flows around a dark round core."""
        x, y = defects.place(rng, 45)
        row, column = np.unravel_index(np.argmin(np.hypot(self.x - x, self.y - y)), self.x.shape)
        du, dv = self.u - self.u[row, column], self.v - self.v[row, column]
        radius = float(rng.uniform(8, 17))
        # Lines that would cross the core are pushed apart, ever less with distance.
        near = np.exp(-(np.square(du / (1.9 * radius)) + np.square(dv / (1.2 * radius))))
        board = self._plane((self.v[row, column] + dv * (1 - near)) / RING)
        depth = blob(self.x, self.y, rng, (x, y), radius, aspect=1.3, angle=self.angle, ragged=0.12)
        core = smoothstep(-2.0, 3.0, depth)
        rings = 0.5 + 0.5 * np.cos(depth * (2 * np.pi / 4.5) + 0.8 * self._cloud)
        colour = np.asarray((0.13, 0.055, 0.022), np.float32) * (0.65 + 0.6 * rings)[..., None]
        return board.painted(core * float(rng.uniform(0.7, 0.95)), colour).raised(0.4 * core * rings)

    def crack(self, rng: np.random.Generator) -> Material:
        """Split the board along its grain."""
        angle = self.angle + float(rng.normal(0, 0.06))
        return defects.crack(self.material, rng, inside=(0.02, 0.011, 0.006), angle=angle, jagged=1.0)

    def scratch(self, rng: np.random.Generator) -> Material:
        """Score the board across its grain; bare wood is paler."""
        angle = self.angle + float(rng.choice([-1, 1]) * rng.uniform(0.35, np.pi / 2))
        return defects.scratch(self.material, rng, (0.80, 0.60, 0.38), angle=angle)

    def hole(self, rng: np.random.Generator) -> Material:
        """Let woodworm have been at it: a few small round holes."""
        board, centre = self.material, defects.place(rng)
        for _ in range(int(rng.integers(1, 5))):
            spot = (centre[0] + float(rng.normal(0, 16)), centre[1] + float(rng.normal(0, 16)))
            depth = blob(self.x, self.y, rng, spot, float(rng.uniform(2.5, 5)), ragged=0.1)
            hole = smoothstep(-0.7, 0.7, depth)
            board = board.painted(0.93 * hole, (0.03, 0.016, 0.008), gloss=0).raised(-4 * hole)
        return board
