# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Damage that befalls many surfaces: scratches, cuts, cracks, stains and dents."""

from __future__ import annotations

import numpy as np

from anomalib_ssl.demo.material import Colour, Material
from anomalib_ssl.demo.noise import Array, fractal_noise
from anomalib_ssl.demo.shapes import REFERENCE, blob, pixel_grid, smoothstep, stroke, wander


def place(rng: np.random.Generator, margin: float = 36) -> tuple[float, float]:
    """Pick the middle of a defect (x, y), at least ``margin`` reference pixels from the border."""
    x, y = rng.uniform(margin, REFERENCE - margin, 2)
    return float(x), float(y)


def scratch(material: Material, rng: np.random.Generator, colour: Colour, *, angle: float | None = None) -> Material:
    """Score the surface: a thin groove of bare material, sometimes with a fainter one beside it.

    Args:
        material: The sound surface.
        rng: Source of course, size and strength.
        colour: Linear RGB of the bare material.
        angle: Direction in radians; any by default.

    Returns:
        The scratched surface.
    """
    x, y = pixel_grid(len(material.height))
    angle = float(rng.uniform(0, np.pi)) if angle is None else angle
    centre, length = place(rng), float(rng.uniform(40, 130))
    line = wander(rng, centre, angle, length, wobble=0.05)
    lines = [(line, 1.0)]
    if rng.random() < 0.4:
        offset = rng.uniform(4, 9) * np.array([-np.sin(angle), np.cos(angle)])
        lines.append(((line + offset)[2:-2].astype(np.float32), 0.7))
    strength = float(rng.uniform(0.5, 0.9))
    for course, part in lines:
        groove = stroke(x, y, course, width=part * float(rng.uniform(1.6, 3.4)))
        # A stylus skips: it bites less where the surface is lower.
        bite = np.clip(0.85 + 0.3 * fractal_noise(x / 9, y / 9, rng), 0.3, 1)
        material = material.painted(groove * bite * part * strength, colour).raised(-0.8 * groove * bite)
    return material


def cut(material: Material, rng: np.random.Generator, inside: Colour, *, angle: float | None = None) -> Material:
    """Slit the surface: a dark opening between lips that curl up.

    Args:
        material: The sound surface.
        rng: Source of course and size.
        inside: Linear RGB of what shows through.
        angle: Direction in radians; any by default.

    Returns:
        The cut surface.
    """
    x, y = pixel_grid(len(material.height))
    angle = float(rng.uniform(0, np.pi)) if angle is None else angle
    line = wander(rng, place(rng), angle, float(rng.uniform(30, 90)), wobble=0.06)
    width = float(rng.uniform(2.5, 6))
    opening = stroke(x, y, line, width, taper=0.5)
    lips = stroke(x, y, line, width + 7, taper=0.45, softness=3)
    return material.raised(1.6 * lips - 6 * opening).painted(opening * 0.95, inside, gloss=0)


def crack(
    material: Material,
    rng: np.random.Generator,
    inside: Colour,
    *,
    angle: float | None = None,
    jagged: float = 2.0,
    width: tuple[float, float] = (1.3, 2.6),
) -> Material:
    """Break the surface: a thin dark jagged line with a branch.

    Args:
        material: The sound surface.
        rng: Source of course and size.
        inside: Linear RGB of the gap.
        angle: Direction in radians; any by default.
        jagged: Standard deviation of the line from its course, in reference pixels.
        width: Least and greatest width in reference pixels.

    Returns:
        The cracked surface.
    """
    x, y = pixel_grid(len(material.height))
    angle = float(rng.uniform(0, np.pi)) if angle is None else angle
    line = _jagged(rng, place(rng, 50), angle, float(rng.uniform(60, 140)), jagged)
    gap = stroke(x, y, line, width=float(rng.uniform(*width)), taper=0.4)
    fork = int(rng.integers(len(line) // 4, 3 * len(line) // 4))
    turn = float(rng.choice([-1, 1]) * rng.uniform(0.5, 1.0))
    branch = _jagged(rng, (0, 0), angle + turn, float(rng.uniform(20, 45)), jagged)
    branch += line[fork] - branch[0]
    gap = np.maximum(gap, stroke(x, y, branch, width=width[0], taper=0.4))
    return material.painted(gap * 0.9, inside, gloss=0).raised(-2 * gap)


def stain(
    material: Material,
    rng: np.random.Generator,
    tint: Colour,
    *,
    strength: float,
    gloss: float,
    softness: float = 2.0,
) -> Material:
    """Soak the surface with a liquid that multiplies its colour and gathers at the rim.

    Args:
        material: The sound surface.
        rng: Source of outline, size and unevenness.
        tint: Linear RGB factor on the colour where the stain is at full strength.
        strength: Strength of the stain in [0, 1].
        gloss: Gloss of the stained part.
        softness: Half width of the edge in reference pixels.

    Returns:
        The stained surface.
    """
    x, y = pixel_grid(len(material.height))
    depth = blob(
        x,
        y,
        rng,
        place(rng),
        float(rng.uniform(15, 33)),
        aspect=float(rng.uniform(1, 1.8)),
        angle=float(rng.uniform(0, np.pi)),
        ragged=0.3,
    )
    body = smoothstep(-softness, softness, depth)
    rim = np.exp(-np.square((depth - softness) / softness))
    density = np.clip(strength * body * (0.8 + 0.25 * fractal_noise(x / 14, y / 14, rng) + 0.35 * rim), 0, 1)
    return material.painted(density, material.albedo * np.asarray(tint, np.float32), gloss=gloss)


def dent(material: Material, rng: np.random.Generator, depth: tuple[float, float]) -> Material:
    """Press the surface in, without a change of colour.

    Args:
        material: The sound surface.
        rng: Source of place and size.
        depth: Least and greatest depth in reference pixels.

    Returns:
        The dented surface.
    """
    x, y = pixel_grid(len(material.height))
    radius = float(rng.uniform(11, 24))
    inside = blob(
        x,
        y,
        rng,
        place(rng),
        radius,
        aspect=float(rng.uniform(1, 1.6)),
        angle=float(rng.uniform(0, np.pi)),
        ragged=0.1,
    )
    bowl = smoothstep(-0.35 * radius, 0.9 * radius, inside)
    return material.raised(-float(rng.uniform(*depth)) * bowl)


def _jagged(
    rng: np.random.Generator,
    centre: tuple[float, float],
    angle: float,
    length: float,
    deviation: float,
) -> Array:
    """Draw a line of short straight pieces that leave its course and return to it, (N, 2)."""
    line = wander(rng, centre, angle, length, wobble=0.06, points=max(4, round(length / 6)))
    return (line + rng.normal(0, deviation, line.shape)).astype(np.float32)
