# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Structural similarity against scikit-image, Kornia and torchmetrics."""

import numpy as np
import torch
from kornia.metrics import ssim
from scipy import ndimage
from skimage.metrics import structural_similarity

from anomalib_ssl.losses import ssim_map


def pair(height=33, width=40):
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(2, 3, height, width, generator=generator)
    return first, (first + 0.2 * torch.randn(first.shape, generator=generator)).clamp(0, 1)


def test_equals_scikit_image_and_kornia_away_from_the_border():
    first, second = pair()
    result = ssim_map(first, second)
    inside = (..., slice(5, -5), slice(5, -5))
    torch.testing.assert_close(result[inside], ssim(first, second, 11)[inside], atol=1e-4, rtol=0)
    for image, other, similarity in zip(first, second, result, strict=True):
        _, expected = structural_similarity(
            image.double().numpy(),
            other.double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        np.testing.assert_allclose(similarity[inside], expected[inside], atol=1e-4)


def test_equals_scipy_up_to_the_border():
    first, second = (image[0, 0].double().numpy() for image in pair())

    def mean(image):
        return ndimage.gaussian_filter(image, 1.5, radius=5, mode="constant")

    covariance = mean(first * second) - mean(first) * mean(second)
    variances = mean(first**2) - mean(first) ** 2 + mean(second**2) - mean(second) ** 2
    expected = (2 * mean(first) * mean(second) + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean(first) ** 2 + mean(second) ** 2 + 1e-4) * (variances + 9e-4)
    np.testing.assert_allclose(ssim_map(*pair())[0, 0], expected, atol=1e-4)


def test_full_precision_under_autocast():
    first, second = pair()
    with torch.autocast("cpu", torch.bfloat16):
        result = ssim_map(first, second)
    assert torch.equal(result, ssim_map(first, second))


def test_gradient_points_towards_the_other_image():
    first, second = pair()
    second.requires_grad_()
    before = ssim_map(first, second).mean()
    before.backward()
    after = ssim_map(first, (second + second.grad * 100).detach()).mean()
    assert after > before
