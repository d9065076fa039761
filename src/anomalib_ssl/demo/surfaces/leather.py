# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Grained leather: pebbles of many sizes between fine creases."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo import defects
from anomalib_ssl.demo.material import Material
from anomalib_ssl.demo.noise import cellular_noise, fractal_noise, value_noise
from anomalib_ssl.demo.shapes import blob, line_distance, smoothstep, wander
from anomalib_ssl.demo.surfaces.base import Surface

HIDE = (0.235, 0.085, 0.036)
"""Linear RGB of the dyed hide."""


class Leather(Surface):
    """Brown upholstery leather."""

    defects = ("cut", "fold", "puncture", "glue")

    def draw(self, rng: np.random.Generator) -> None:
        """Emboss the grain."""
        u, v = self.u, self.v
        bend_u = u + 2.2 * fractal_noise(u / 14, v / 14, rng, octaves=2)
        bend_v = v + 2.2 * fractal_noise(u / 14, v / 14, rng, octaves=2)
        nearest, second = cellular_noise(bend_u / 9.5, bend_v / 8.0, rng)
        small, small_second = cellular_noise(bend_u / 4.6, bend_v / 4.2, rng)
        pebbles = smoothstep(0.0, 0.42, second - nearest) * (1 - 0.35 * nearest)
        grains = smoothstep(0.0, 0.4, small_second - small)
        fine = fractal_noise(u / 2.2, v / 2.2, rng, octaves=2)
        height = 1.5 * pebbles + 0.45 * grains + 0.10 * fine + 0.8 * fractal_noise(u / 80, v / 80, rng, octaves=2)
        tone = 0.66 + 0.30 * pebbles + 0.08 * grains + 0.06 * value_noise(u / 60, v / 60, rng) + 0.03 * fine
        tint = np.asarray(HIDE) * rng.normal(1, 0.015, 3)
        albedo = np.clip(tone[..., None] * tint, 0, 1).astype(np.float32)
        gloss = (0.10 * pebbles).astype(np.float32)
        self.material = Material(albedo, height.astype(np.float32), gloss, shininess=14)

    def cut(self, rng: np.random.Generator) -> Material:
        """Slit the hide down to its pale flesh or to the dark beneath."""
        pale = rng.random() < 0.5
        return defects.cut(self.material, rng, inside=(0.33, 0.20, 0.12) if pale else (0.012, 0.007, 0.005))

    def fold(self, rng: np.random.Generator) -> Material:
        """Leave a crease where the hide was folded: a furrow between two swellings, worn pale."""
        angle, length = float(rng.uniform(0, np.pi)), float(rng.uniform(60, 140))
        line = wander(rng, defects.place(rng, 50), angle, length, wobble=0.12)
        distance, along = line_distance(self.x, self.y, line)
        width = float(rng.uniform(3.0, 5.0))
        fade = smoothstep(0, 0.25, np.minimum(along, 1 - along)) * float(rng.uniform(0.7, 1.1))
        swelling = fade * np.exp(-np.square((distance - 1.6 * width) / width))
        furrow = fade * np.exp(-np.square(distance / width))
        return self.material.raised(2.2 * swelling - 3.2 * furrow).painted(0.28 * swelling, (0.42, 0.21, 0.11))

    def puncture(self, rng: np.random.Generator) -> Material:
        """Poke an awl through, once or a few times."""
        hide, centre = self.material, defects.place(rng)
        for _ in range(int(rng.integers(1, 5))):
            spot = (centre[0] + float(rng.normal(0, 14)), centre[1] + float(rng.normal(0, 14)))
            radius = float(rng.uniform(2.5, 4.5))
            depth = blob(self.x, self.y, rng, spot, radius, ragged=0.12)
            hole, rim = smoothstep(-0.8, 0.8, depth), smoothstep(-3.5, 0, depth)
            hide = hide.raised(1.4 * rim - 5 * hole).painted(0.95 * hole, (0.008, 0.005, 0.004), gloss=0)
        return hide

    def glue(self, rng: np.random.Generator) -> Material:
        """Let a smear of glue dry: it fills the grain, shines and is slightly milky."""
        depth = blob(
            self.x,
            self.y,
            rng,
            defects.place(rng),
            float(rng.uniform(8, 20)),
            aspect=float(rng.uniform(1.2, 3)),
            angle=float(rng.uniform(0, np.pi)),
            ragged=0.3,
        )
        film = smoothstep(-1, 2, depth)
        filled = film * 0.75 * (2.4 - self.material.height)
        return self.material.raised(filled).painted(float(rng.uniform(0.3, 0.5)) * film, (0.36, 0.23, 0.14), gloss=0.15)
