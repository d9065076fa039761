# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The Gaussian density against scikit-learn, and its gradient and GradCAM against autograd."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.covariance import ledoit_wolf_shrinkage as sklearn_shrinkage
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring import (
    GaussianDensity,
    Moments,
    NotFittedError,
    gradcam,
    smooth,
    upsample,
)


def features(num=60, dim=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    return torch.randn(num, dim, generator=generator, dtype=torch.float64) @ mixing + 1


@pytest.mark.parametrize(("num", "dim"), [(200, 10), (20, 50), (3, 64), (50, 1)])
def test_ledoit_wolf_shrinkage_equals_sklearn(num, dim):
    x = features(num, dim)
    expected = sklearn_shrinkage(x.numpy())
    weight = Moments(dim).update(x - x.mean(0)).ledoit_wolf_shrinkage()
    assert weight.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("num", "dim"), [(200, 10), (20, 50)])
def test_ledoit_wolf_distances_equal_sklearn(num, dim):
    x, y = features(num, dim), features(15, dim, seed=1)
    density = GaussianDensity(dim, l2_normalize=False).double().fit([x])
    expected = 0.5 * LedoitWolf().fit(x.numpy()).mahalanobis(y.numpy())
    np.testing.assert_allclose(density(y).numpy(), expected, rtol=1e-6)


def test_float32_scores_stay_close_to_float64():
    x, y = F.normalize(features(40, 64)), F.normalize(features(30, 64, seed=1))
    single, double = GaussianDensity(64).fit([x]), GaussianDensity(64).double().fit([x])
    torch.testing.assert_close(single(y.float()).double(), double(y), rtol=1e-3, atol=0)


def test_normalisation_makes_scores_independent_of_length():
    x = features(40, 8).float()
    density = GaussianDensity(8).fit([x])
    torch.testing.assert_close(density(x * 7), density(x), rtol=1e-3, atol=1e-4)
    without = GaussianDensity(8, l2_normalize=False).fit([x])
    assert not torch.allclose(without(x * 7), without(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_features_of_any_precision_are_scored(dtype):
    y = features().to(dtype)
    density = GaussianDensity(12).fit([y])
    torch.testing.assert_close(density(y), density(y.float()))
    torch.testing.assert_close(density.gradient(y), density.gradient(y.float()))


@pytest.mark.parametrize("l2_normalize", [True, False])
def test_gradient_equals_autograd(l2_normalize):
    density = GaussianDensity(12, l2_normalize).double().fit([features()])
    y = features(9, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(density(y).sum(), y)
    torch.testing.assert_close(density.gradient(y.detach()), expected)


def test_gradcam_equals_autograd():
    generator = torch.Generator().manual_seed(0)
    activations = torch.rand(5, 12, 4, 6, generator=generator, dtype=torch.float64).requires_grad_()
    density = GaussianDensity(12).double().fit([torch.rand(40, 12, generator=generator)])
    (gradient,) = torch.autograd.grad(density(activations.mean(dim=(2, 3))).sum(), activations)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    expected = (weights * activations).sum(dim=1, keepdim=True).relu()
    with torch.inference_mode():
        result = gradcam(activations.detach(), density.gradient(activations.detach().mean(dim=(2, 3))))
    torch.testing.assert_close(result, expected.detach())
    assert result.max() > 0


def test_upsample_keeps_the_place_of_a_peak():
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 2, 5] = 1
    for sigma in (0.0, 4.0):
        large = smooth(upsample(maps, (64, 64)), sigma)
        row, col = divmod(int(large.flatten().argmax()), 64)
        assert abs(row - 19.5) <= 1
        assert abs(col - 43.5) <= 1
    assert smooth(upsample(maps, (64, 64)), 4.0).max() < upsample(maps, (64, 64)).max()
    assert smooth(torch.ones(1, 1, 5, 5), 4.0).sum().item() == pytest.approx(25, rel=1e-5)


def test_gradient_before_fitting_is_an_error():
    with pytest.raises(NotFittedError):
        GaussianDensity(4).gradient(torch.zeros(2, 4))


def test_two_samples_are_enough_and_one_is_not():
    x = features(2, 12)
    for l2_normalize in (True, False):
        assert GaussianDensity(12, l2_normalize).fit([x])(features(3, seed=1).float()).isfinite().all()
        alike = GaussianDensity(12, l2_normalize).fit([x[:1].expand(4, -1)])
        assert alike(x.float()).diff() > 0
    with pytest.raises(ValueError, match="at least 2"):
        GaussianDensity(12).fit([x[:1]])


def test_features_of_any_scale_are_told_apart():
    x, y = features(4, 30), features(3, 30, seed=1)
    for scale in (1e-3, 1.0, 1e6):
        density = GaussianDensity(30, l2_normalize=False).double().fit([scale * x])
        assert (density(scale * y) > density(scale * x).max()).all()


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        GaussianDensity(3).fit([torch.full((4, 3), float("nan"))])
