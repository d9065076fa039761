# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Errors divided by what is normal at their contrast, beside SciPy's fits."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from scipy.optimize import nnls
from scipy.stats import linregress

from anomalib_ssl.scoring.contrast_scale import ContrastScale, image_contrast, local_variance


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_local_variance_against_scipy():
    images = rand(2, 3, 24, 20).double() * 0.1 + 0.8

    def mean(values):
        def sums(array):
            return uniform_filter(array, size=(1, 1, 5, 5), mode="constant")

        once = sums(values) / sums(np.ones_like(values))
        return sums(once) / sums(np.ones_like(values))

    pixels = images.numpy()
    expected = (mean(pixels**2) - mean(pixels) ** 2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(local_variance(images, 5), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["line", "falling", "negative"])
def test_contrast_scale_is_the_best_line_that_is_positive(kind):
    # Places of all contrasts in images of one.
    images = (rand(1, 3, 16, 16) * torch.linspace(0.1, 1, 16)).expand(6, -1, -1, -1)
    variance = local_variance(images, 3)
    noise = 0.1 * variance.mean() * rand(6, 1, 16, 16, seed=1)
    normal = {"line": 0.01 + 0.3 * variance, "falling": 1 - 2 * variance, "negative": 2 * variance.square()}
    errors = normal[kind] + noise
    scale = ContrastScale(3)
    scale.fit(zip(errors.split(4), images.split(4), strict=True))
    v, e = variance.flatten().double().numpy(), errors.flatten().double().numpy()
    least = 0.1 * e.mean()
    # constant = least + surplus, with surplus and slope not negative.
    (surplus, slope), _ = nnls(np.stack([np.ones_like(v), v], axis=1), e - least)
    np.testing.assert_allclose((scale.constant, scale.slope), (least + surplus, slope), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(scale(errors, images), errors / (scale.constant + scale.slope * variance))


@pytest.mark.parametrize(("power", "expected"), [(0.6, 0.6), (-0.5, 0), (1.7, 1)])
def test_contrast_scale_finds_the_level_of_images_of_any_contrast(power, expected):
    images = 0.5 + (rand(12, 3, 16, 16) - 0.5) * torch.linspace(0.1, 1, 12).view(-1, 1, 1, 1)
    contrast = image_contrast(images)
    errors = (0.02 * contrast.pow(power)).view(-1, 1, 1, 1).expand(-1, 1, 16, 16)
    scale = ContrastScale(3)
    scale.fit([(errors, images)])
    slope = linregress(contrast.double().log().numpy(), errors.double().mean(dim=(1, 2, 3)).log().numpy()).slope
    assert float(scale.exponent) == pytest.approx(expected, abs=1e-4) == pytest.approx(np.clip(slope, 0, 1), abs=1e-4)
    if power == 0.6:
        means = scale(errors, images).mean(dim=(1, 2, 3))
        torch.testing.assert_close(means, torch.ones(12), rtol=0.05, atol=0)
        # An image richer in contrast than all that were seen counts as the richest one.
        richer = 0.5 + 1.5 * (images[-1:] - 0.5)
        torch.testing.assert_close(scale(errors[-1:], richer), scale(errors[-1:], images[-1:]), rtol=1e-3, atol=0)


def test_contrast_scale_of_a_single_image_has_no_level():
    scale = ContrastScale(3)
    images = rand(1, 3, 16, 16)
    scale.fit([(rand(1, 1, 16, 16), images)])
    assert scale.exponent == 0
    assert scale(rand(1, 1, 16, 16), images).isfinite().all()
    flat = torch.zeros(2, 3, 16, 16)
    scale.fit([(torch.zeros(2, 1, 16, 16), flat)])
    assert scale(rand(1, 1, 16, 16), images).isfinite().all()
