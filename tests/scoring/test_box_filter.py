# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The box filter against SciPy, and what it promises of constants and single pixels."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter

from anomalib_ssl.scoring.box_filter import box_filter, default_box_size


def reference(maps: np.ndarray, size: int) -> np.ndarray:
    """Sums over the window, divided by the number of pixels in it, twice."""

    def sums(values):
        return uniform_filter(values, size=(1, 1, size, size), mode="constant")

    for _ in range(2):
        maps = sums(maps) / sums(np.ones_like(maps))
    return maps


@pytest.mark.parametrize("size", [1, 3, 5, 11, 41])
def test_equals_scipy_also_at_the_border(size):
    maps = torch.rand(2, 3, 17, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(box_filter(maps, size), reference(maps.numpy(), size), atol=1e-12)


def test_a_constant_stays_and_a_pixel_spreads_as_far_as_said():
    torch.testing.assert_close(box_filter(torch.full((1, 1, 9, 7), 0.3), 5), torch.full((1, 1, 9, 7), 0.3))
    pixel = torch.zeros(1, 1, 41, 41)
    pixel[..., 20, 20] = 1
    spread = box_filter(pixel, 5)
    assert (spread[0, 0] > 0).any(dim=0).sum() == (spread[0, 0] > 0).any(dim=1).sum() == 2 * 5 - 1
    assert float(spread.sum()) == pytest.approx(1)
    # The standard deviation that the docstring gives.
    distance = torch.arange(41.0) - 20
    assert float((spread.sum(dim=(0, 1, 2)) * distance.square()).sum()) == pytest.approx((5**2 - 1) / 6, rel=1e-5)


@pytest.mark.parametrize(("side", "size"), [(8, 1), (64, 3), (128, 5), (256, 11), (512, 21)])
def test_default_window_follows_the_shorter_side(side, size):
    assert default_box_size((side, 2 * side)) == default_box_size((3 * side, side)) == size


@pytest.mark.parametrize("size", [4, 0, -3])
def test_bad_sizes_are_named(size):
    with pytest.raises(ValueError, match="size"):
        box_filter(torch.zeros(1, 1, 8, 8), size)
