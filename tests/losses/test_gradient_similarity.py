# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gradient magnitude similarity against torch.median, scipy and finite differences."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.losses import (
    gradient_distance_map,
    gradient_magnitude,
    gradient_magnitude_similarity,
    gradient_pyramid,
    gradient_similarity_loss,
    median_filter_3x3,
)


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("levels", [0, 2, 5], ids=["no ties", "two values", "five values"])
def test_median_equals_torch_median(levels):
    images = rand(3, 2, 17, 24)
    if levels:
        images = (images * levels).floor() / levels
    windows = F.pad(images, (1, 1, 1, 1), mode="replicate").unfold(2, 3, 1).unfold(3, 3, 1)
    assert torch.equal(median_filter_3x3(images), windows.flatten(-2).median(dim=-1).values)


def reference_magnitude(image):
    """By scipy, from a float64 array (H, W)."""
    across = ndimage.prewitt(image, axis=1, mode="nearest") / 3
    down = ndimage.prewitt(image, axis=0, mode="nearest") / 3
    return np.sqrt(across**2 + down**2 + 1e-12)


def test_magnitude_equals_scipys_prewitt():
    image = rand(1, 1, 20, 31)
    expected = reference_magnitude(image[0, 0].double().numpy())
    np.testing.assert_allclose(gradient_magnitude(image)[0, 0], expected, atol=1e-6)


def test_magnitude_of_half_precision_has_a_slope_where_the_image_is_flat():
    image = torch.full((1, 1, 5, 5), 0.5, dtype=torch.float16, requires_grad=True)
    magnitude = gradient_magnitude(image)
    assert magnitude.min() > 0
    magnitude.sum().backward()
    assert image.grad.isfinite().all()


def reference_pyramid(image):
    """By scipy, from an array (C, H, W)."""
    gray, pyramid = image.double().numpy().mean(axis=0), []
    for level in range(4):
        if level:
            gray = gray.reshape(gray.shape[0] // 2, 2, gray.shape[1] // 2, 2).mean(axis=(1, 3))
        pyramid.append(reference_magnitude(ndimage.median_filter(gray, size=3, mode="nearest")))
    return pyramid


def reference_similarity(first, second):
    return [(2 * a * b + 0.0026) / (a**2 + b**2 + 0.0026) for a, b in zip(first, second, strict=True)]


def test_loss_and_map_equal_a_reference_in_numpy_and_scipy():
    images, others = rand(2, 3, 32, 48), rand(2, 3, 32, 48, seed=1)
    pyramids = gradient_pyramid(images), gradient_pyramid(others)
    assert [tuple(level.shape) for level in pyramids[0]] == [(2, 1, 32 >> i, 48 >> i) for i in range(4)]
    similarities = [
        reference_similarity(reference_pyramid(image), reference_pyramid(other))
        for image, other in zip(images, others, strict=True)
    ]
    expected = np.mean([[1 - level.mean() for level in similarity] for similarity in similarities])
    assert gradient_similarity_loss(*pyramids).item() == pytest.approx(expected, abs=1e-5)
    maps = gradient_distance_map(*pyramids)
    assert maps.shape == (2, 1, 32, 48)
    for result, similarity in zip(maps, similarities, strict=True):
        # Order one and pixel centres on a grid: bilinear interpolation without aligned corners.
        enlarged = [
            ndimage.zoom(1 - level, 2**scale, order=1, mode="nearest", grid_mode=True)
            for scale, level in enumerate(similarity)
        ]
        np.testing.assert_allclose(result[0], np.mean(enlarged, axis=0), atol=1e-5)


def test_equal_images_have_no_distance_and_others_less_than_one():
    images = rand(2, 3, 16, 16)
    pyramid = gradient_pyramid(images)
    assert gradient_distance_map(pyramid, pyramid).abs().max() == 0
    flat = gradient_pyramid(torch.full_like(images, 0.5))
    distance = gradient_distance_map(pyramid, flat)
    assert (distance > 0).all()
    assert (distance < 1).all()
    assert (gradient_magnitude_similarity(pyramid[0], flat[0]) > 0).all()


def test_shift_of_brightness_is_not_seen():
    images = rand(1, 3, 16, 16) * 0.5
    torch.testing.assert_close(
        gradient_similarity_loss(gradient_pyramid(images), gradient_pyramid(images + 0.4)),
        torch.tensor(0.0),
        atol=1e-5,
        rtol=0,
    )


def test_gradient_equals_finite_differences():
    target = [level.double() for level in gradient_pyramid(rand(1, 3, 16, 16))]
    image = rand(1, 1, 16, 16, seed=2).double().requires_grad_()

    def loss(pixels):
        return gradient_similarity_loss([gradient_magnitude(median_filter_3x3(pixels))], target[:1])

    assert torch.autograd.gradcheck(loss, (image,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_flat_images_have_finite_gradients_also_in_half_precision(dtype):
    image = torch.full((1, 3, 16, 16), 0.5, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        pyramid = gradient_pyramid(image)
        loss = gradient_similarity_loss(gradient_pyramid(rand(1, 3, 16, 16)), pyramid)
    assert all(level.dtype == torch.float32 for level in pyramid)
    loss.backward()
    assert image.grad.isfinite().all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="multiples of 8, got 16 x 20"):
        gradient_pyramid(torch.zeros(1, 3, 16, 20))
