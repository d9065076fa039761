# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Errors of several kinds and errors of each pixel against those of normal images, beside NumPy."""

import numpy as np
import pytest
import torch

from anomalib_ssl.scoring import Errors, Pixels
from anomalib_ssl.scoring.box_filter import box_filter


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(part, batches):
    part.start()
    for batch in batches:
        part.update(batch)
    part.finish()
    return part


def smooth(values, size):
    return box_filter(torch.from_numpy(values), size).numpy()


@pytest.mark.parametrize("batch", [1, 4, 11])
def test_errors_equal_numpy(batch):
    scale = torch.tensor([1e-4, 1.0, 50.0]).view(3, 1, 1)
    normal, test = rand(11, 3, 6, 7) * scale, rand(2, 3, 6, 7, seed=1) * scale
    expected = (test.numpy() / normal.numpy().mean(axis=(0, 2, 3), keepdims=True)).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted(Errors("e", 3), normal.split(batch))(test), expected, rtol=1e-5)


def test_what_is_fitted_keeps_no_graph():
    errors = rand(3, 2, 4, 4).requires_grad_()
    assert not fitted(Errors("error", 2), [errors]).mean.requires_grad


def test_kinds_without_any_normal_error_are_taken_as_they_are():
    normal, test = rand(3, 2, 4, 4), rand(2, 2, 4, 4, seed=1)
    normal[:, 1] = 0
    errors = fitted(Errors("e", 2), [normal])(test)
    torch.testing.assert_close(errors[:, 0], (test[:, 0] / normal[:, 0].mean() + test[:, 1]) / 2)


@pytest.mark.parametrize("batch", [1, 4, 11])
@pytest.mark.parametrize("kinds", [1, 2])
def test_pixels_equal_numpy(kinds, batch):
    # An offset far above the spread.
    normal, test = 100 + rand(11, kinds, 16, 20), 100 + rand(2, kinds, 16, 20, seed=1)
    values = normal.double().numpy()
    mean, variance = (smooth(each, 3) for each in (values.mean(axis=0)[None], values.var(axis=0)[None]))
    expected = ((test.numpy() - mean) / np.sqrt(variance)).mean(axis=1, keepdims=True)
    found = fitted(Pixels("e", (16, 20), 3, kinds), normal.split(batch))(test)
    assert found.shape == (2, 1, 16, 20)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_pixels_without_spread_do_not_explode():
    maps = rand(5, 1, 16, 16)
    maps[..., :8] = 0.25
    pixels = fitted(Pixels("e", (16, 16), 1), [maps])
    rms = maps.var(dim=0, correction=0).mean().sqrt()
    torch.testing.assert_close(pixels.deviation[..., :8], (0.1 * rms).expand(1, 1, 16, 8))
    assert pixels(maps).isfinite().all()
    assert fitted(pixels, [torch.zeros(3, 1, 16, 16)])(maps).isfinite().all()


def test_a_single_image_has_a_mean_map_but_no_deviation():
    maps = rand(1, 1, 16, 16)
    pixels = fitted(Pixels("e", (16, 16), 1), [maps])
    torch.testing.assert_close(pixels(maps), torch.zeros(1, 1, 16, 16))
    torch.testing.assert_close(pixels(maps + 0.5), torch.full((1, 1, 16, 16), 0.5))


def test_a_second_fit_knows_nothing_of_the_first():
    first, second, test = rand(5, 1, 8, 8), 3 + rand(4, 1, 8, 8, seed=1), rand(2, 1, 8, 8, seed=2)
    for build in (lambda: Errors("e"), lambda: Pixels("e", (8, 8), 1)):
        assert torch.equal(fitted(fitted(build(), [first]), [second])(test), fitted(build(), [second])(test))


def test_float32_is_close_to_float64():
    normal, test = rand(50, 2, 8, 8), rand(3, 2, 8, 8, seed=1)
    for build in (lambda: Errors("e", 2), lambda: Pixels("e", (8, 8), 3, 2)):
        single = fitted(build(), normal.split(7))(test)
        double = fitted(build().double(), normal.double().split(7))(test.double())
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_maps_of_another_size_are_refused():
    pixels = fitted(Pixels("e", (8, 8), 1), [rand(2, 1, 8, 8)])
    for call in (pixels, pixels.update):
        with pytest.raises(ValueError, match=r"image_size=\(8, 8\), got \(8, 9\)"):
            call(rand(2, 1, 8, 9))
