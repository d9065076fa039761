# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Shapes as soft coverage masks: strokes along wandering lines, and irregular blobs.

Lengths are in reference pixels, of which every image is ``REFERENCE`` wide, whatever its resolution.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from anomalib_ssl.demo.noise import Array, fractal_noise

REFERENCE = 256
"""Side of every image in reference pixels, the unit in which surfaces and defects are described."""


def pixel_grid(resolution: int) -> tuple[Array, Array]:
    """Coordinates of the pixel centres in reference pixels.

    Args:
        resolution: Side of the image in pixels.

    Returns:
        ``x`` (to the right) and ``y`` (downwards), each (resolution, resolution), in (0, ``REFERENCE``).
    """
    centres = (np.arange(resolution, dtype=np.float32) + 0.5) * (REFERENCE / resolution)
    y, x = np.meshgrid(centres, centres, indexing="ij")
    return x, y


def smoothstep(low: float, high: float, value: Array) -> Array:
    """Rise from 0 at ``low`` to 1 at ``high`` without a kink (falls where ``high`` is the smaller one)."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def wander(
    rng: np.random.Generator,
    centre: tuple[float, float],
    angle: float,
    length: float,
    wobble: float = 0.1,
    points: int = 12,
) -> Array:
    """Draw a line that keeps its general direction but not its course.

    Args:
        rng: Source of the course.
        centre: Where its middle lies (x, y), in reference pixels.
        angle: General direction in radians, 0 to the right.
        length: Length in reference pixels.
        wobble: Standard deviation of the turn at each point, in radians.
        points: Number of points.

    Returns:
        Points (x, y) along the line, (points, 2).
    """
    heading = np.cumsum(rng.normal(0, wobble, points - 1))
    heading += angle - heading.mean()
    steps = length / (points - 1) * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    line = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
    return (line - line.mean(axis=0) + np.asarray(centre)).astype(np.float32)


def line_distance(x: Array, y: Array, line: Array) -> tuple[Array, Array]:
    """Measure how far every pixel lies from a line of straight segments.

    Args:
        x: Pixel coordinates in reference pixels, (H, W).
        y: The same downwards, (H, W).
        line: Points (x, y) along the line, (N, 2).

    Returns:
        The distance in reference pixels and the place along the line in [0, 1], each (H, W).
    """
    distance = np.full_like(x, np.inf)
    place = np.zeros_like(x)
    for index, (start, end) in enumerate(pairwise(line)):
        dx, dy = end - start
        t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
        to_segment = np.hypot(x - start[0] - t * dx, y - start[1] - t * dy)
        closer = to_segment < distance
        distance = np.where(closer, to_segment, distance)
        place = np.where(closer, (index + t) / (len(line) - 1), place)
    return distance, place


def stroke(x: Array, y: Array, line: Array, width: float, taper: float = 0.3, softness: float = 0.7) -> Array:
    """Cover a line with a stroke that thins out towards both ends.

    Args:
        x: Pixel coordinates in reference pixels, (H, W).
        y: The same downwards, (H, W).
        line: Points (x, y) along the line, (N, 2).
        width: Full width in the middle, in reference pixels.
        taper: Part of the length, at either end, over which the stroke thins out.
        softness: Half width of its edge, in reference pixels.

    Returns:
        Coverage in [0, 1], (H, W).
    """
    distance, place = line_distance(x, y, line)
    body = smoothstep(0, taper, np.minimum(place, 1 - place)) if taper > 0 else np.ones_like(place)
    return smoothstep(softness, -softness, distance - 0.5 * width * body) * smoothstep(0, 0.05, body)


def blob(
    x: Array,
    y: Array,
    rng: np.random.Generator,
    centre: tuple[float, float],
    radius: float,
    *,
    aspect: float = 1.0,
    angle: float = 0.0,
    ragged: float = 0.25,
) -> Array:
    """Measure depth inside an irregular round shape.

    Args:
        x: Pixel coordinates in reference pixels, (H, W).
        y: The same downwards, (H, W).
        rng: Source of the outline.
        centre: Its middle (x, y), in reference pixels.
        radius: Mean radius in reference pixels.
        aspect: Length over width.
        angle: Direction of its length in radians, 0 to the right.
        ragged: Unevenness of the outline as a part of the radius.

    Returns:
        Signed depth in reference pixels, (H, W): positive inside, zero on the outline, negative outside.
    """
    dx, dy = x - centre[0], y - centre[1]
    along = (dx * np.cos(angle) + dy * np.sin(angle)) / np.sqrt(aspect)
    across = (dy * np.cos(angle) - dx * np.sin(angle)) * np.sqrt(aspect)
    outline = 1 + ragged * fractal_noise(x / radius, y / radius, rng, octaves=3)
    return (radius * outline - np.hypot(along, across)).astype(np.float32)
