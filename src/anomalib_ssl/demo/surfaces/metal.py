# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Brushed steel: fine streaks in one direction and a broad sheen across them."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo import defects
from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import fractal_noise, value_noise
from anomalib_ssl.demo.shapes import blob, smoothstep
from anomalib_ssl.demo.surfaces.base import Surface

STEEL = (0.33, 0.34, 0.36)
"""Linear RGB of the sheet."""


class Metal(Surface):
    """A sheet of steel, brushed from left to right."""

    defects = ("scratch", "dent", "rust", "stain")

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the brush marks, from hair-thin to broad."""
        u, v = self.u, self.v
        hair = value_noise(u / 90, v / 0.8, rng, period=1024)
        fine = value_noise(u / 160, v / 2.2, rng, period=512)
        broad = value_noise(u / 300, v / 9, rng, period=256)
        marks = value_noise(u / 60, v / 0.9, rng, period=1024)
        marks = np.clip(marks - 1.1, 0, None)
        streaks = 0.075 * hair + 0.06 * fine + 0.045 * broad - 0.22 * marks
        # Brushed metal mirrors the lamp along a band across the brush, not in a spot.
        band = rng.uniform(60, 190)
        sheen = np.exp(-np.square((self.y - band) / 95)) * rng.uniform(0.18, 0.30)
        tone = (1 + streaks) * (0.80 + sheen + 0.03 * value_noise(u / 120, v / 120, rng))
        tint = np.asarray(STEEL) * rng.normal(1, 0.008, 3)
        albedo = np.clip(tone[..., None] * tint, 0, 1).astype(np.float32)
        height = (0.10 * hair + 0.08 * fine).astype(np.float32)
        self.material = Material(albedo, height, np.full_like(height, 0.12), shininess=30)

    def scratch(self, rng: np.random.Generator) -> Material:
        """Score the sheet across the brush, where it shows."""
        angle = self.angle + float(rng.choice([-1, 1]) * rng.uniform(0.35, np.pi / 2))
        bright = rng.random() < 0.7
        return defects.scratch(self.material, rng, (0.85, 0.86, 0.88) if bright else (0.06, 0.06, 0.07), angle=angle)

    def dent(self, rng: np.random.Generator) -> Material:
        """Press the sheet in."""
        return defects.dent(self.material, rng, depth=(3.0, 6.0))

    def rust(self, rng: np.random.Generator) -> Material:
        """Let spots of rust grow together."""
        centre, coverage = defects.place(rng), np.zeros_like(self.x)
        for _ in range(int(rng.integers(2, 6))):
            spot = (centre[0] + float(rng.normal(0, 10)), centre[1] + float(rng.normal(0, 10)))
            depth = blob(self.x, self.y, rng, spot, float(rng.uniform(4, 11)), ragged=0.5)
            coverage = np.maximum(coverage, smoothstep(-2.5, 2.5, depth))
        grain = fractal_noise(self.x / 3, self.y / 3, rng)
        colour = np.asarray((0.20, 0.075, 0.025), np.float32) * (1 + 0.35 * grain[..., None])
        pitted = self.material.painted(coverage * float(rng.uniform(0.6, 0.95)), np.clip(colour, 0.01, 1), gloss=0)
        return pitted.raised(0.35 * coverage * grain)

    def stain(self, rng: np.random.Generator) -> Material:
        """Leave a dried drop of coolant: a dull film with a darker rim."""
        return defects.stain(
            self.material,
            rng,
            tint=(0.52, 0.50, 0.44),
            strength=float(rng.uniform(0.45, 0.8)),
            gloss=0.02,
        )
