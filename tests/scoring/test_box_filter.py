# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The box filter against SciPy, and what it promises of constants and single pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from anomalib_ssl.scoring.box_filter import box_filter, default_box_size


def reference(maps: np.ndarray, size: int, passes: int) -> np.ndarray:
    """Sums over the window, divided by the number of pixels in it."""

    def sums(values):
        return uniform_filter(values, size=(1, 1, size, size), mode="constant")

    for _ in range(passes):
        maps = sums(maps) / sums(np.ones_like(maps))
    return maps


@pytest.mark.parametrize(("size", "passes"), [(3, 1), (5, 2), (11, 3), (41, 1), (1, 4), (7, 0)])
def test_equals_scipy_also_at_the_border(size, passes):
    maps = torch.rand(2, 3, 17, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(box_filter(maps, size, passes), reference(maps.numpy(), size, passes), atol=1e-12)


def test_a_constant_stays_and_a_pixel_spreads_as_far_as_said():
    torch.testing.assert_close(box_filter(torch.full((1, 1, 9, 7), 0.3), 5, 3), torch.full((1, 1, 9, 7), 0.3))
    pixel = torch.zeros(1, 1, 41, 41)
    pixel[..., 20, 20] = 1
    spread = box_filter(pixel, 5, 3)
    assert (spread[0, 0] > 0).any(dim=0).sum() == (spread[0, 0] > 0).any(dim=1).sum() == 3 * (5 - 1) + 1
    assert float(spread.sum()) == pytest.approx(1)
    # The standard deviation that the docstring gives.
    distance = torch.arange(41.0) - 20
    assert float((spread.sum(dim=(0, 1, 2)) * distance.square()).sum()) == pytest.approx(3 * (5**2 - 1) / 12, rel=1e-5)


@pytest.mark.parametrize(("side", "size"), [(8, 1), (64, 3), (128, 5), (256, 11), (512, 21)])
def test_default_window_follows_the_shorter_side(side, size):
    assert default_box_size((side, 2 * side)) == default_box_size((3 * side, side)) == size


@pytest.mark.parametrize(
    ("size", "passes", "named"), [(4, 1, "size"), (0, 1, "size"), (-3, 1, "size"), (3, -1, "passes")]
)
def test_bad_arguments_are_named(size, passes, named):
    with pytest.raises(ValueError, match=named):
        box_filter(torch.zeros(1, 1, 8, 8), size, passes)
