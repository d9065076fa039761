# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gaussian upsampling against a transposed convolution in two dimensions, and its invariants."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring import gaussian_upsample, grid_size


def scores(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def reference(maps, window_size, stride, sigma):
    offsets = np.arange(window_size) - (window_size - 1) / 2
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * sigma**2))
    kernel = torch.from_numpy(kernel / kernel.sum())[None, None]
    weights = F.conv_transpose2d(torch.ones_like(maps), kernel, stride=stride)
    return F.conv_transpose2d(maps, kernel, stride=stride) / weights


@pytest.mark.parametrize(
    ("size", "window_size", "stride", "sigma"),
    [((72, 56), 32, 4, 10.0), ((45, 53), 9, 4, 2.0), ((16, 16), 8, 8, 3.0), ((9, 5), 5, 1, 1.0), ((8, 8), 8, 3, 5.0)],
)
def test_equals_transposed_convolution(size, window_size, stride, sigma):
    maps = scores(3, 1, *grid_size(size, window_size, stride))
    result = gaussian_upsample(maps, size, window_size, stride, sigma)
    expected = reference(maps, window_size, stride, sigma)
    assert result.shape == (3, 1, *size)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)
    single = gaussian_upsample(maps.float(), size, window_size, stride, sigma)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_constant_map_stays_constant():
    constant = torch.full((2, 1, 57, 57), 3.0)
    torch.testing.assert_close(gaussian_upsample(constant, (256, 256)), torch.full((2, 1, 256, 256), 3.0))


def test_a_window_counts_most_at_its_centre():
    maps = torch.zeros(1, 1, 57, 57)
    maps[0, 0, 5, 20] = 1
    result = gaussian_upsample(maps, (256, 256))[0, 0]
    # The centre of an even window lies between its two middle pixels.
    peak = (result > 0.9999 * result.max()).nonzero()
    assert peak.double().mean(dim=0).tolist() == [4 * 5 + 15.5, 4 * 20 + 15.5]
    result[20:52, 80:112] = 0
    assert not result.any()


def test_an_uncovered_rest_repeats_the_border():
    maps = scores(1, 1, 5, 6)
    exact = gaussian_upsample(maps, (48, 52))
    rest = gaussian_upsample(maps, (50, 55))
    torch.testing.assert_close(rest, F.pad(exact, (0, 3, 0, 2), mode="replicate"))


def test_a_kernel_too_narrow_for_floating_point_is_no_nan():
    maps = scores(1, 1, 3, 3)
    means = gaussian_upsample(maps, (96, 96), 32, 32, sigma=0.01)
    torch.testing.assert_close(means, F.interpolate(maps, scale_factor=32, mode="nearest"))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (((256, 256), 32, 5), "45 x 45"),
        (((256, 252), 32, 4), "57 x 56"),
        (((256, 256), 32, 33), "stride"),
        (((256, 256), 32, 0), "stride"),
        (((256, 256), 32, 4, 0.0), "sigma"),
        (((20, 256), 32, 4), "window_size=32"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        gaussian_upsample(torch.zeros(1, 1, 57, 57), *arguments)
