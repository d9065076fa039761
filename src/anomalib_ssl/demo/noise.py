# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Smooth random fields, sampled at any coordinates."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array: TypeAlias = npt.NDArray[np.floating[Any]]
"""A field over the picture, or points; single precision unless said otherwise."""


def value_noise(x: Array, y: Array, rng: np.random.Generator, period: int = 64) -> Array:
    """Interpolate a lattice of standard normal values with cubic splines.

    Because the field is sampled at coordinates instead of pixels, texture follows a rotated or warped surface.

    Args:
        x: Coordinate in lattice cells, (H, W); one unit is one cell. Divide by a cell size to stretch the noise.
        y: The same across ``x``, (H, W).
        rng: Source of the lattice.
        period: Cells after which the field repeats, in both directions.

    Returns:
        Noise of mean 0 and standard deviation near 0.7, (H, W).
    """
    lattice = rng.standard_normal((period, period)).astype(np.float32)
    return ndimage.map_coordinates(lattice, np.stack([y, x]), order=3, mode="grid-wrap", output=np.float32)


def fractal_noise(x: Array, y: Array, rng: np.random.Generator, octaves: int = 4, gain: float = 0.5) -> Array:
    """Sum octaves of value noise, each twice as fine and ``gain`` times as strong as the one before.

    Args:
        x: Coordinate in cells of the coarsest octave, (H, W).
        y: The same across ``x``, (H, W).
        rng: Source of the lattices.
        octaves: Number of octaves.
        gain: Strength of an octave relative to the coarser one before it.

    Returns:
        Noise of mean 0 and standard deviation near 0.7, (H, W).
    """
    # Every octave is turned against the one before, or the lattices' common axes would show.
    cos, sin = np.cos(0.65, dtype=np.float32), np.sin(0.65, dtype=np.float32)
    total = np.zeros_like(x)
    for octave in range(octaves):
        total += gain**octave * value_noise(x * 2**octave, y * 2**octave, rng)
        x, y = cos * x + sin * y, cos * y - sin * x
    return total / np.sqrt(sum(gain ** (2 * octave) for octave in range(octaves)), dtype=np.float32)


def cellular_noise(x: Array, y: Array, rng: np.random.Generator, period: int = 64) -> tuple[Array, Array]:
    """Distances to the nearest and the second nearest of one random point per cell (Worley noise).

    Args:
        x: Coordinate in cells, (H, W).
        y: The same across ``x``, (H, W).
        rng: Source of the points.
        period: Cells after which the field repeats, in both directions.

    Returns:
        The two distances in cells, each (H, W). Their difference is zero on the borders between cells.
    """
    points = rng.uniform(0.1, 0.9, (period, period, 2)).astype(np.float32)
    column, row = np.floor(x).astype(int), np.floor(y).astype(int)
    nearest = np.full_like(x, np.inf)
    second = np.full_like(x, np.inf)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            point = points[(row + dy) % period, (column + dx) % period]
            distance = np.hypot(column + dx + point[..., 0] - x, row + dy + point[..., 1] - y)
            second = np.minimum(second, np.maximum(nearest, distance))
            nearest = np.minimum(nearest, distance)
    return nearest.astype(np.float32), second.astype(np.float32)
