# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Windows of images against loops and slices."""

import pytest
import torch
from torch import nn

from anomalib_ssl.scoring import extract_windows, grid_size, map_windows


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def small_network():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize(
    ("size", "window_size", "stride", "expected"),
    [
        ((256, 256), 32, 4, (57, 57)),
        ((256, 256), 64, 4, (49, 49)),
        ((32, 35), 32, 4, (1, 1)),
        ((40, 36), 32, 4, (3, 2)),
        ((10, 10), 3, 5, (2, 2)),
    ],
)
def test_grid_size(size, window_size, stride, expected):
    assert grid_size(size, window_size, stride) == expected
    assert extract_windows(torch.empty(1, 1, *size), window_size, stride).shape[1:3] == expected


def test_windows_are_slices_of_the_images():
    x = images(2, 3, 21, 17)
    windows = extract_windows(x, 8, 3)
    assert windows.shape == (2, 5, 4, 3, 8, 8)
    assert windows.data_ptr() == x.data_ptr()
    for i in range(5):
        for j in range(4):
            assert torch.equal(windows[:, i, j], x[:, :, 3 * i : 3 * i + 8, 3 * j : 3 * j + 8])


@pytest.mark.parametrize("chunk", [None, 1, 7, 40, 1000])
@torch.inference_mode()
def test_features_equal_one_window_at_a_time(chunk):
    x, network = images(2, 3, 21, 17), small_network()
    features = map_windows(x, network, 8, 3, chunk)
    assert features.shape == (2, 6, 5, 4)
    for b in range(2):
        for i in range(5):
            for j in range(4):
                (expected,) = network(x[b : b + 1, :, 3 * i : 3 * i + 8, 3 * j : 3 * j + 8])
                torch.testing.assert_close(features[b, :, i, j], expected, rtol=1e-5, atol=1e-6)


def test_no_chunk_is_larger_than_asked_for():
    sizes = []

    def network(windows):
        sizes.append(len(windows))
        return windows.flatten(1)

    map_windows(images(2, 1, 20, 20), network, 8, 4, chunk=15)
    assert sizes == [15, 15, 2]


def test_any_network_and_any_data_type():
    x = (images(1, 3, 16, 16) * 255).to(torch.uint8)
    brightest = map_windows(x, lambda windows: windows.flatten(1).amax(1, keepdim=True), 4, 4, chunk=5)
    assert torch.equal(brightest[:, 0], nn.functional.max_pool2d(x.amax(1, keepdim=True).float(), 4)[:, 0].byte())


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: grid_size((256, 31), 32, 4), "window_size=32 pixels high and wide, got 256 x 31"),
        (lambda: grid_size((256, 256), 0, 4), "window_size"),
        (lambda: grid_size((256, 256), 32, 0), "stride"),
        (lambda: map_windows(images(1, 3, 8, 8), small_network(), 32), "got 8 x 8"),
        (lambda: map_windows(images(1, 3, 8, 8), small_network(), 8, chunk=0), "chunk"),
        (lambda: map_windows(images(1, 3, 8, 8), nn.Identity(), 8), "network must give"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
