# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the surfaces of the demo have in common: random fields, shapes, and damage that befalls many of them."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

REFERENCE, MARGIN = 256, 20
"""Side of every picture in reference pixels, the unit of all lengths and places whatever the resolution; and what is
drawn beyond it on every side, for turning and shifting the camera."""

Array: TypeAlias = npt.NDArray[Any]
"""A field of single precision, (H, W) unless said otherwise, or a colour, or points."""


def rgb(red: float, green: float, blue: float) -> Array:
    """Linear reflectance."""
    return np.array((red, green, blue), np.float32)


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Rise from 0 at ``low`` to 1 at ``high`` without a kink (falls where ``high`` is the smaller one)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


class Surface(ABC):
    """One specimen of a surface before any light falls on it; each of its ``defects`` is a method that damages it.

    Damage replaces fields and never changes them in place: a shallow copy of the sound specimen stays sound.
    """

    defects: ClassVar[tuple[str, ...]]
    shininess: ClassVar[float]  # narrowness of highlights (Blinn-Phong exponent)
    sway: ClassVar[float] = 0.8  # how far the surface is out of true
    albedo: Array  # linear RGB reflectance, (H, W, 3)
    height: Array  # relief, positive towards the camera
    gloss: Array  # strength of mirror-like reflection

    def __init__(self, rng: np.random.Generator, resolution: int) -> None:
        self.rng, self.scale = rng, resolution / REFERENCE
        side = round((REFERENCE + 2 * MARGIN) * self.scale)
        self.empty = np.zeros((side, side), np.float32)
        self.x = ((np.arange(side, dtype=np.float32) + 0.5) / self.scale - MARGIN)[None]
        self.y = self.x.T
        self.draw()
        # Every specimen lies a little turned, nearer or farther, and not quite flat before the camera.
        zoom, turn = (rng.uniform(-size, size) for size in (0.025, 0.04))
        x, y = self.x - REFERENCE / 2, self.y - REFERENCE / 2
        self.pose = zoom * x - turn * y + self.sway * self.noise(70), turn * x + zoom * y + self.sway * self.noise(70)

    @abstractmethod
    def draw(self) -> None:
        """Draw the sound specimen."""

    def noise(self, wide: float, high: float = 0, octaves: int = 1) -> Array:
        """Blotches of mean 0 and standard deviation near 1; each further octave is twice as fine, half as strong."""
        total = self.empty
        for octave in range(octaves):
            cells = [max(3, round(2**octave * 2 * len(total) / self.scale / size)) for size in (high or wide, wide)]
            # Blurred, or the blotches would line up with the rows of the grid.
            grid = cv2.GaussianBlur(self.rng.standard_normal(cells, np.float32), (0, 0), 1)
            total = total + 3.5 * 0.5**octave * cv2.resize(grid, total.shape, interpolation=cv2.INTER_CUBIC)
        return total

    def blur(self, field: Array, sigma: float) -> Array:
        """Smooth a field by a Gaussian of the standard deviation ``sigma``."""
        return cv2.GaussianBlur(field, (0, 0), sigma * self.scale)

    def moved(self, field: Array, right: Array, down: Array) -> Array:
        """Take every pixel from where ``right`` and ``down`` lead from it."""
        x, y = ((to + MARGIN) * self.scale - 0.5 for to in (self.x + right, self.y + down))
        return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)

    def distance(self, inside: Array) -> Array:
        """How far a pixel lies inside a shape; 0 outside."""
        return cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5) / self.scale

    def place(self) -> Array:
        """Pick a place (x, y) inside the picture."""
        return self.rng.uniform(40, REFERENCE - 40, 2)

    def size(self, low: float, high: float) -> float:
        """Pick a length; small ones are as likely as large ones."""
        return low * (high / low) ** self.rng.uniform()

    def polygon(self, outline: Array) -> Array:
        """Fill an outline (N, 2) with 1."""
        corners = np.round(((outline + MARGIN) * self.scale - 0.5) * 16).astype(np.int32)
        return cv2.fillPoly(self.empty.astype(np.uint8), [corners], 255, cv2.LINE_AA, shift=4) / np.float32(255)

    def blob(self, centre: Array, radius: float, ragged: float = 0.3) -> Array:
        """Cover an irregular round shape; ``ragged`` is how far its outline strays, as a part of the radius."""
        turn, slant = np.linspace(0, 2 * np.pi, 60), self.rng.uniform(-0.6, 0.6)
        shape = self.polygon(centre + radius * np.stack([np.cos(turn), np.sin(turn + slant)], axis=1))
        return self.moved(shape, *(ragged * radius * self.noise(1.5 * radius, octaves=3) for _ in "xy"))

    def line(self, low: float, high: float, spread: float = np.pi / 2, wobble: float = 0.05) -> Array:
        """Pick points (x, y) along a line whose direction leaves that to the right by up to ``spread``, (24, 2)."""
        heading = np.cumsum(self.rng.normal(0, wobble, 24))
        heading += self.rng.uniform(-spread, spread) - heading.mean()
        line = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * self.size(low, high) / 24
        return line - line.mean(axis=0) + self.place()

    def stroke(self, line: Array, width: float, taper: float = 0.3) -> Array:
        """Cover a line, ``width`` wide but for the part ``taper`` of its length at either end."""
        along, step = np.linspace(0, 1, len(line))[:, None], np.gradient(line, axis=0)
        normal = step[:, ::-1] * (-1, 1) / np.linalg.norm(step, axis=1, keepdims=True)
        side = 0.5 * width * np.sqrt(np.clip(np.minimum(along, 1 - along) / taper, 0, 1)) * normal
        return self.polygon(np.concatenate([line + side, (line - side)[::-1]]))

    def paint(self, coverage: Array, colour: Array, gloss: float = 0, relief: Array | float = 0) -> None:
        """Blend towards a colour and its gloss by the weight ``coverage``, and add relief."""
        self.albedo = self.albedo + coverage[..., None] * (colour - self.albedo)
        self.gloss = self.gloss + coverage * (gloss - self.gloss)
        self.height = self.height + relief

    def score(self, *colours: Array, gloss: float) -> None:
        """Scratch down to bare material of one of the colours; a stylus skips where the surface is low."""
        line, colour = self.line(40, 140, wobble=0.03), colours[self.rng.integers(len(colours))]
        for index in range(self.rng.integers(1, 4)):
            beside = line[2 * index : 24 - index] + index * self.rng.uniform(1, 4, 2)
            groove = self.stroke(beside, self.size(1.6, 3.2)) * np.clip(0.7 + 0.3 * self.noise(9), 0, 1)
            self.paint(0.8 * 0.7**index * groove, colour, gloss, relief=-0.8 * groove)

    def slit(self, inside: Array) -> None:
        """Cut an opening between lips that curl up."""
        line, width = self.line(30, 100), self.size(3, 7)
        opening = self.stroke(line, width, taper=0.5)
        lips = self.blur(self.stroke(line, 2.5 * width, taper=0.5), 0.5 * width)
        self.paint(0.95 * opening, inside, relief=2 * lips - 6 * opening)

    def split(self, inside: Array, spread: float, jagged: float) -> None:
        """Crack: a thin line that leaves its course by ``jagged``, with branches."""
        line = self.line(60, 150, spread)
        gap = self.stroke(line, self.size(1.3, 2.6), taper=0.6)
        for _ in range(self.rng.integers(1, 4)):
            turn = cv2.getRotationMatrix2D((0, 0), self.rng.uniform(-50, 50), self.rng.uniform(0.2, 0.8))[:, :2]
            branch = (line[:12] - line[0]) @ turn + line[self.rng.integers(4, 20)]
            gap = np.maximum(gap, self.stroke(branch, 1.3, taper=0.8))
        gap = self.moved(gap, jagged * self.noise(12, octaves=3), jagged * self.noise(12, octaves=3))
        self.paint(0.9 * gap, inside, relief=-2 * gap)

    def pierce(self, inside: Array, high: float) -> None:
        """Make one or a few round holes of a radius up to ``high``, each with a low rim."""
        centre = self.place()
        for _ in range(self.rng.integers(1, 6)):
            hole = self.blob(centre + self.rng.normal(0, 15, 2), self.size(0.4 * high, high), 0.1)
            self.paint(0.94 * hole, inside, relief=2 * self.blur(hole, 1.5) - 5 * hole)

    def soak(self, tint: Array, strength: float, gloss: float, softness: float) -> None:
        """Spill a liquid that multiplies the colour by ``tint`` and gathers at the rim, with a few splashes."""
        centre, radius = self.place(), self.size(11, 32)
        pool = self.blob(centre, radius)
        for _ in range(self.rng.integers(0, 5)):
            pool = np.maximum(pool, self.blob(centre + self.rng.normal(0, 1.2 * radius, 2), self.size(1.5, 4)))
        pool = self.blur(pool, softness)
        density = strength * pool * (0.75 + 0.12 * self.noise(14, octaves=3) + 1.4 * pool * (1 - pool))
        self.paint(np.clip(density, 0, 1), self.albedo * tint, gloss)
