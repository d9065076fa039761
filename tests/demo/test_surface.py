# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random fields and shapes from which the surfaces are made."""

import numpy as np
import pytest

from anomalib_ssl.demo.surface import MARGIN, REFERENCE, Surface


class Blank(Surface):
    """Nothing but the tools to draw with."""

    def draw(self) -> None:
        """Leave it blank."""


@pytest.fixture
def blank() -> Blank:
    """A surface to draw on, one pixel to each reference pixel."""
    return Blank(np.random.default_rng(0), REFERENCE)


@pytest.mark.parametrize("octaves", [1, 3])
def test_noise_is_centred_and_smooth(blank: Blank, octaves: int) -> None:
    field = blank.noise(8, octaves=octaves)
    assert field.shape == (REFERENCE + 2 * MARGIN, REFERENCE + 2 * MARGIN)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.15
    assert 0.7 < field.std() < 1.4
    assert np.abs(np.diff(field, axis=1)).mean() < 0.5


def test_noise_has_the_size_asked_for(blank: Blank) -> None:
    across, down = (np.abs(np.diff(blank.noise(40, 5), axis=axis)).mean() for axis in (1, 0))
    assert down / across == pytest.approx(8, rel=0.3)


def test_lines_keep_their_length_and_direction(blank: Blank) -> None:
    line = blank.line(80, 80, spread=0, wobble=0.1)
    assert np.linalg.norm(np.diff(line, axis=0), axis=1).sum() == pytest.approx(80 * 23 / 24)
    right, down = line[-1] - line[0]
    assert np.arctan2(down, right) == pytest.approx(0, abs=0.15)


def test_shapes_cover_what_they_should() -> None:
    blank = Blank(np.random.default_rng(0), 4 * REFERENCE)
    line = np.stack([np.linspace(50, 150, 24), np.full(24, 100)], axis=1)
    stroke = blank.stroke(line, width=6, taper=1e-3)
    assert stroke.sum() / 16 == pytest.approx(600, rel=0.15)
    rows, columns = np.nonzero(stroke > 0.5)
    assert (rows.mean() / 4 - MARGIN, columns.mean() / 4 - MARGIN) == pytest.approx((100, 100), abs=1)
    assert blank.blob(np.array([128, 128]), radius=20, ragged=0).sum() / 16 == pytest.approx(np.pi * 400, rel=0.25)


def test_fields_move(blank: Blank) -> None:
    moved = blank.moved(blank.x + 0 * blank.y, blank.empty + 3, blank.empty)
    assert moved[50, 50] == pytest.approx(blank.x[0, 53], abs=0.01)
