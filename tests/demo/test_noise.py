# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random fields and shapes from which the surfaces are made."""

import numpy as np
import pytest

from anomalib_ssl.demo.noise import cellular_noise, fractal_noise, value_noise
from anomalib_ssl.demo.shapes import blob, line_distance, pixel_grid, stroke, wander


@pytest.mark.parametrize("noise", [value_noise, fractal_noise])
def test_noise_is_centred_smooth_and_repeatable(noise) -> None:
    x, y = pixel_grid(256)
    field = noise(x / 8, y / 8, np.random.default_rng(0))
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.15
    assert 0.4 < field.std() < 1.2
    assert np.abs(np.diff(field, axis=1)).max() < 1.5
    assert np.array_equal(field, noise(x / 8, y / 8, np.random.default_rng(0)))


def test_value_noise_passes_through_its_lattice() -> None:
    rng = np.random.default_rng(0)
    lattice = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    y, x = np.meshgrid(np.arange(8.0), np.arange(8.0), indexing="ij")
    field = value_noise(x.astype(np.float32), y.astype(np.float32), rng, period=8)
    np.testing.assert_allclose(field, lattice, atol=1e-4)


def test_cellular_noise_finds_the_two_nearest_points() -> None:
    x, y = pixel_grid(32)
    x, y = x / 32, y / 32
    nearest, second = cellular_noise(x, y, np.random.default_rng(0), period=16)
    points = np.random.default_rng(0).uniform(0.1, 0.9, (16, 16, 2)).astype(np.float32)
    column, row = np.meshgrid(np.arange(-1, 9), np.arange(-1, 9))
    places = points[row % 16, column % 16] + np.stack([column, row], axis=-1)
    offset = places.reshape(-1, 2) - np.stack([x, y], axis=-1)[..., None, :]
    distances = np.sort(np.linalg.norm(offset, axis=-1), axis=-1)
    np.testing.assert_allclose(nearest, distances[..., 0], atol=1e-4)
    # A farther cell can hold the second nearest point; only neighbours are searched.
    assert (second >= distances[..., 1] - 1e-4).all()
    assert (second <= distances[..., 1] + 1e-4).mean() > 0.98


def test_line_distance_to_a_straight_line() -> None:
    x, y = pixel_grid(256)
    line = np.array([(50, 100), (150, 100), (200, 100)], np.float32)
    distance, place = line_distance(x, y, line)
    assert distance[99, 75] == pytest.approx(0.5)
    assert distance[120, 75] == pytest.approx(20.5)
    assert place[120, 75] == pytest.approx(25.5 / 100 / 2, abs=1e-3)
    assert distance[99, 219] == pytest.approx(np.hypot(19.5, 0.5))


def test_wander_keeps_length_centre_and_direction() -> None:
    line = wander(np.random.default_rng(0), (100, 60), angle=0.5, length=80, wobble=0.1)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(80, rel=1e-4)
    np.testing.assert_allclose(line.mean(axis=0), (100, 60), atol=1e-3)
    across = line[-1] - line[0]
    assert np.arctan2(across[1], across[0]) == pytest.approx(0.5, abs=0.15)


def test_stroke_and_blob_have_the_size_asked_for() -> None:
    x, y = pixel_grid(256)
    line = np.array([(50, 100), (150, 100)], np.float32)
    assert stroke(x, y, line, width=6, taper=0).sum() == pytest.approx(600, rel=0.15)
    depth = blob(x, y, np.random.default_rng(0), (128, 128), radius=20, aspect=2, ragged=0)
    assert (depth > 0).sum() == pytest.approx(np.pi * 400, rel=0.02)
