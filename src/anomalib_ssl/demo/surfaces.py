# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The surfaces of the demo: cloth, hide, brushed steel, glazed tiles and planed oak."""

from functools import partialmethod

import cv2
import numpy as np

from anomalib_ssl.demo.surface import MARGIN, REFERENCE, Array, Surface, rgb, smoothstep


class Fabric(Surface):
    """A 2/2 twill of blue warp, down the picture, and undyed weft, of uneven yarn."""

    defects = ("missing_thread", "cut", "stain", "loose_thread")
    shininess, pitch = 20, 8
    warp, weft = rgb(0.085, 0.14, 0.27), rgb(0.40, 0.40, 0.37)
    cut = partialmethod(Surface.slit, rgb(0.01, 0.01, 0.012))
    stain = partialmethod(Surface.soak, rgb(0.50, 0.38, 0.22), strength=0.95, gloss=0.02, softness=2)

    def draw(self) -> None:
        """Spin the yarn and weave it."""
        start = self.rng.uniform(4, 8, 2).astype(np.float32)
        self._u, self._v = self.x / self.pitch + start[0], self.y / self.pitch + start[1]
        self._shade = self.rng.normal(1, 0.07, (2, 64)).astype(np.float32)
        self._thick = 0.48 + 0.024 * self.noise(self.pitch, 60), 0.48 + 0.024 * self.noise(60, self.pitch)
        # Fibres run along the yarn: short across it, long along it.
        self._fibre = self.noise(1.3, 5, octaves=2), self.noise(5, 1.3, octaves=2)
        self._dye = rgb(*self.rng.normal(1, 0.012, 3)) * (1 + 0.04 * self.noise(70))[..., None]
        self.gloss = self.empty + 0.01
        self._weave(self.empty)

    def _weave(self, missing: Array) -> None:
        """Lay warp over weft or weft over warp, whichever is higher, where the warp is not ``missing``."""
        column, row = np.floor(self._u), np.floor(self._v)
        # Along each yarn, "over two, under two" is a wave of four pitches, shifted by one from yarn to yarn.
        waves = np.cos(np.pi / 2 * (self._v - column)), -np.cos(np.pi / 2 * (row + 1 - self._u))
        heights, shades = [], []
        for i, (place, yarn) in enumerate(((self._u, column), (self._v, row))):
            body = np.sqrt(np.maximum(1 - np.square((place - yarn - 0.5) / self._thick[i]), 0))
            heights.append(np.where(body > 0, 1.7 * body + 1.2 * waves[i] + 0.3 * self._fibre[i], -4))
            shades.append(self._shade[i][yarn.astype(int)] * (1 + 0.12 * self._fibre[i]))
        over = heights[0] - 8 * missing > heights[1]
        self.height = np.maximum(np.where(over, *heights), -3)
        tone = np.where(over, *shades) * (0.15 + 0.85 * smoothstep(-3.2, 0.5, self.height))
        self.albedo = np.where(over[..., None], self.warp, self.weft) * self._dye * tone[..., None]

    def missing_thread(self) -> None:
        """Leave out one or more neighbouring warp threads over a part of their length."""
        x, y = self.place()
        first = np.floor(self._u[0, np.argmin(np.abs(self.x - x))])
        threads = (self._u >= first) & (self._u < first + self.rng.integers(2, 5))
        self._weave(threads & (np.abs(self.y - y) < self.size(25, 90)))

    def loose_thread(self) -> None:
        """Let a stray end of yarn lie on the cloth, with its shadow."""
        line, width = self.line(60, 170, wobble=0.25), self.size(5, 8)
        yarn = self.stroke(line, width, taper=0.03)
        self.paint(0.8 * self.blur(self.stroke(line + 4, width, taper=0.03), 2), rgb(0, 0, 0))
        colour = self.weft * (self.rng.uniform(1.2, 1.7) * (1 + 0.15 * self.noise(2)))[..., None]
        self.paint(yarn, colour, relief=yarn * (4 * self.blur(yarn, 0.3 * width) - self.height))


class Leather(Surface):
    """Brown upholstery leather: pebbles of many sizes between fine creases."""

    defects = ("cut", "fold", "puncture", "glue")
    shininess = 14
    cut = partialmethod(Surface.slit, rgb(0.012, 0.007, 0.005))
    puncture = partialmethod(Surface.pierce, rgb(0.008, 0.005, 0.004), 4.5)

    def draw(self) -> None:
        """Emboss the grain."""
        bend = 1.5 * self.noise(14, octaves=2), 1.5 * self.noise(14, octaves=2)
        pebble, grain = (1 - np.exp(-6 / pitch * self.moved(self._creases(pitch), *bend)) for pitch in (9, 4.5))
        fine = self.noise(2, octaves=2)
        self.height = 2 * pebble + 0.5 * grain + 0.08 * fine + 0.8 * self.noise(70, octaves=2)
        tone = 0.5 + 0.45 * pebble + 0.1 * grain + 0.04 * self.noise(60) + 0.03 * fine
        self.albedo = tone[..., None] * rgb(0.235, 0.085, 0.036) * rgb(*self.rng.normal(1, 0.015, 3))
        self.gloss = 0.1 * pebble

    def _creases(self, pitch: float) -> Array:
        """Distance to the border between cells, one around a random point in each square of the side ``pitch``."""
        count = int((REFERENCE + 2 * MARGIN) / pitch)
        points = (np.indices((count, count)) + self.rng.uniform(0, 1, (2, count, count))) * len(self.empty) / count
        seeds = np.ones(self.empty.shape, np.uint8)
        seeds[tuple(points.astype(int))] = 0
        _, cells = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
        borders = cv2.morphologyEx(cells.astype(np.float32), cv2.MORPH_GRADIENT, np.ones((2, 2)))
        return self.blur(self.distance(borders == 0), 0.4)

    def fold(self) -> None:
        """Leave a crease where the hide was folded: a dark furrow between two swellings, worn pale."""
        line, width = self.line(60, 160), self.size(4, 7)
        furrow = self.blur(self.stroke(line, width), 0.35 * width)
        swelling = self.blur(self.stroke(line, 4 * width), 0.6 * width)
        self.paint(0.35 * swelling, rgb(0.42, 0.21, 0.11), gloss=0.1, relief=3 * swelling - 6 * furrow)
        self.paint(0.75 * furrow, rgb(0.06, 0.02, 0.01))

    def glue(self) -> None:
        """Let a smear of glue dry: it fills the grain, shines and is slightly milky."""
        film = self.blur(self.blob(self.place(), self.size(9, 26)), 0.8)
        level = self.blur(self.height, 6) + 0.8 - self.height
        self.paint(self.rng.uniform(0.3, 0.55) * film, rgb(0.36, 0.23, 0.14), gloss=0.3, relief=0.75 * film * level)


class Metal(Surface):
    """A sheet of steel, brushed from left to right."""

    defects = ("scratch", "dent", "rust", "stain")
    shininess, sway = 30, 0.1
    scratch = partialmethod(Surface.score, rgb(0.85, 0.86, 0.88), rgb(0.06, 0.06, 0.07), gloss=0.12)
    stain = partialmethod(Surface.soak, rgb(0.52, 0.50, 0.44), strength=0.65, gloss=0.02, softness=0.9)

    def draw(self) -> None:
        """Draw the brush marks, from hair-thin to broad."""
        hair, fine, broad = self.noise(90, 0.8), self.noise(160, 2.2), self.noise(300, 9)
        streaks = 0.08 * hair + 0.06 * fine + 0.035 * broad - 0.25 * np.maximum(self.noise(60, 0.9) - 1.5, 0)
        # Brushed metal mirrors the lamp along a band across the brush, not in a spot.
        sheen = np.exp(-np.square((self.y - self.rng.uniform(60, 190)) / 95)) * self.rng.uniform(0.18, 0.30)
        tone = (1 + streaks) * (0.80 + sheen + 0.02 * self.noise(120))
        self.albedo = tone[..., None] * rgb(0.33, 0.34, 0.36) * rgb(*self.rng.normal(1, 0.008, 3))
        self.height, self.gloss = 0.10 * hair + 0.07 * fine, self.empty + 0.12

    def dent(self) -> None:
        """Press the sheet in."""
        radius = self.size(9, 24)
        bowl = self.blur(self.blob(self.place(), radius, 0.1), 0.5 * radius)
        self.height = self.height - self.rng.uniform(0.5, 0.8) * radius * bowl

    def rust(self) -> None:
        """Let spots of rust grow together."""
        centre, spots = self.place(), self.empty
        for _ in range(self.rng.integers(3, 9)):
            spots = np.maximum(spots, self.blob(centre + self.rng.normal(0, 10, 2), self.size(3, 12), 0.5))
        grain, around = self.noise(3, octaves=2), self.blur(spots, 2.5)
        self.paint(0.35 * around, rgb(0.28, 0.19, 0.12))
        eaten, colour = 0.85 * smoothstep(0.1, 0.7, around * (1 + 0.4 * grain)), rgb(0.20, 0.075, 0.025)
        self.paint(eaten, colour * np.clip(1 + 0.35 * grain, 0.2, 2)[..., None], relief=0.3 * eaten * grain)


class Tile(Surface):
    """Hand-glazed tiles, each of its own shade and never quite level, with grout between them."""

    defects = ("chip", "crack", "missing_grout", "stain")
    shininess, pitch, joint = 70, 78, 5
    clay = rgb(0.50, 0.27, 0.16)
    crack = partialmethod(Surface.split, rgb(0.04, 0.04, 0.038), spread=np.pi / 2, jagged=1.2)
    stain = partialmethod(Surface.soak, rgb(0.75, 0.45, 0.22), strength=0.75, gloss=0.1, softness=0.9)

    def draw(self) -> None:
        """Lay the tiles and fill the joints."""
        rng, start = self.rng, MARGIN + self.rng.uniform(0, self.pitch, 2).astype(np.float32)
        (column, u), (row, v) = (np.divmod(place, self.pitch) for place in (self.x + start[0], self.y + start[1]))
        right, down, self._tile = u - self.pitch / 2, v - self.pitch / 2, (5 * row + column).astype(int)
        square = np.maximum(np.abs(right), np.abs(down)) < (self.pitch - self.joint) / 2
        # Blurring the squares rounds their corners.
        glazed = self.blur(square.astype(np.float32), 1.5) + 0.05 * self.noise(12) > 0.5
        self._edge = self.blur(self.distance(glazed) - self.distance(~glazed), 0.3)
        self._grain, cloud, inside = self.noise(2.5, octaves=2), self.noise(26, octaves=4), np.maximum(self._edge, 0)
        shades = rgb(0.14, 0.36, 0.34) * rng.normal(1, 0.06, (25, 1)) * rng.normal(1, 0.025, (25, 3))
        tilt = rng.normal(0, 0.012, (2, 25)).astype(np.float32)[:, self._tile]
        specks = smoothstep(1.65, 2.15, self.noise(2.6, octaves=2))
        pillow = 2.4 * (1 - np.exp(-inside / 3.5)) + tilt[0] * right + tilt[1] * down + 0.06 * cloud
        self.height, self.gloss = np.where(glazed, pillow, 0.2 * self._grain), self.empty + 0.42
        self.albedo = shades.astype(np.float32)[self._tile] * ((1 + 0.06 * cloud) * (1 - 0.4 * specks))[..., None]
        # Glaze runs off the edges while it melts and lets the clay shine through.
        self.paint(0.35 * np.exp(-inside / 2.2), self.clay, gloss=0.42)
        self.paint(smoothstep(0.6, -0.6, self._edge), rgb(0.46, 0.44, 0.40) * (1 + 0.08 * self._grain)[..., None])

    def _at_edge(self, inside: float) -> tuple[Array, int]:
        """Pick a place (x, y) so far inside the edge of the glaze, and tell on which tile."""
        x, y = self.place()
        far = np.hypot(self.x - x, self.y - y) + 20 * np.abs(self._edge - inside)
        row, column = divmod(int(np.argmin(far)), len(far))
        return np.array([self.x[0, column], self.y[row, 0]]), self._tile[row, column]

    def chip(self) -> None:
        """Break a flake off the edge of a tile, down to the clay."""
        (centre, tile), rough = self._at_edge(2), self.noise(4, octaves=3)
        flake = self.blob(centre, self.size(8, 22)) * (self._tile == tile) * (self._edge > 0)
        hollow = flake * (1 + 2 * self.blur(flake, 3) - 0.3 * rough)
        self.paint(flake, self.clay * (1 + 0.12 * rough)[..., None], relief=-hollow)

    def missing_grout(self) -> None:
        """Let the grout fall out of a stretch of a joint."""
        gap = self.blob(self._at_edge(-2)[0], self.size(10, 36)) * smoothstep(0.3, -0.8, self._edge)
        dust = rgb(0.055, 0.05, 0.045) * np.clip(1 + 0.3 * self._grain, 0, 2)[..., None]
        self.paint(gap, dust, relief=-3.5 * gap)


class Wood(Surface):
    """An oak board without a knot, its grain from left to right."""

    defects = ("knot", "crack", "scratch", "hole")
    shininess = 12
    crack = partialmethod(Surface.split, rgb(0.02, 0.011, 0.006), spread=0.06, jagged=0.8)
    scratch = partialmethod(Surface.score, rgb(0.80, 0.60, 0.38), gloss=0.05)
    hole = partialmethod(Surface.pierce, rgb(0.03, 0.016, 0.008), 5.0)

    def draw(self) -> None:
        """Let rings grow, 15 reference pixels wide, and cut them lengthwise."""
        fibre, cloud = self.noise(45, 1.3), self.noise(120, 40, octaves=3)
        phase, ring = np.modf(64 + self.y / 15 + 1.1 * self.noise(260, 60, octaves=3))
        dark = self.rng.uniform(0.25, 1, 128).astype(np.float32)[ring.astype(int)]
        late = smoothstep(0.25, 0.92, phase) * smoothstep(1.0, 0.93, phase) * dark
        # Pores of oak lie in the spring wood.
        pores = smoothstep(1.2, 2.2, self.noise(11, 0.9)) * (1 - 0.6 * late)
        self.height, self.gloss = 0.13 * fibre - 0.9 * pores + 0.25 * late, self.empty + 0.05
        mix = np.clip(self.rng.normal(0.72, 0.06) * late + 0.09 * (fibre + cloud) + 0.12, 0, 1)[..., None]
        colour = rgb(0.55, 0.33, 0.16) * (1 - mix) + rgb(0.27, 0.125, 0.048) * mix
        self.albedo = colour * (1 - 0.55 * pores)[..., None] * rgb(*self.rng.normal(1, 0.012, 3))

    def knot(self) -> None:
        """Grow a branch out of the board: grain that flows around a dark round core."""
        centre, radius = self.place().astype(np.float32), self.size(6, 19)
        x, y = (self.x - centre[0]) / radius, (self.y - centre[1]) / radius
        # Lines that would cross the core are pushed apart, ever less with distance.
        push = -radius * y * np.exp(-np.square(x / 1.9) - np.square(y / 1.2))
        self.albedo, self.height = (self.moved(field, self.empty, push) for field in (self.albedo, self.height))
        away = np.hypot(x / 1.2, y) + 0.12 * self.noise(radius, octaves=2)
        core, rings = smoothstep(1.15, 0.85, away), 0.5 + 0.5 * np.cos(away * radius * 1.4)
        colour = rgb(0.13, 0.055, 0.022) * (0.65 + 0.6 * rings)[..., None]
        self.paint(0.85 * core, colour, gloss=0.05, relief=0.4 * core * rings)


SURFACES: dict[str, type[Surface]] = {each.__name__.lower(): each for each in (Fabric, Leather, Metal, Tile, Wood)}
"""The surfaces by name."""
