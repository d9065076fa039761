# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Densities fitted to streams of features against fits of all features at once and against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.covariance import ledoit_wolf_shrinkage as sklearn_shrinkage
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring import GaussianDensity, Moments


def features(num=300, dim=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=generator, dtype=torch.float64)
    # A drift: the first batches say little about the mean of all.
    drift = torch.linspace(-5, 5, num, dtype=torch.float64).unsqueeze(1)
    return torch.randn(num, dim, generator=generator, dtype=torch.float64) @ mixing + 3 + drift


def streamed(x, batches):
    moments = Moments(x.shape[1])
    for batch in x.split(batches):
        moments.update(batch)
    return moments


EPS = torch.finfo(torch.float64).eps
BATCHINGS = (1, 7, 300, [0, 2, 100, 0, 198])


@pytest.mark.parametrize("batches", BATCHINGS)
def test_moments_equal_numpy_and_sklearn(batches):
    x = features()
    moments = streamed(x, batches)
    assert moments.count == 300
    np.testing.assert_allclose(moments.mean, x.numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance(), np.cov(x.numpy().T, bias=True), rtol=1e-10, atol=1e-10)
    assert moments.ledoit_wolf_shrinkage().item() == pytest.approx(sklearn_shrinkage(x.numpy()), rel=1e-9)


def test_an_offset_far_larger_than_the_spread_is_harmless():
    x = features() + 1e6
    moments = streamed(x, 7)
    np.testing.assert_allclose(moments.covariance(), np.cov(x.numpy().T, bias=True), rtol=1e-7, atol=1e-7)
    assert moments.ledoit_wolf_shrinkage().item() == pytest.approx(sklearn_shrinkage(x.numpy()), rel=1e-6)


@pytest.mark.parametrize("num", [300, 8])
@pytest.mark.parametrize("batches", [1, 7, 299])
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_fit_of_batches_equals_fit_of_all(l2_normalize, batches, num):
    x, y = features(num), features(20, seed=1)
    expected = GaussianDensity(12, l2_normalize).double().fit([x])
    result = GaussianDensity(12, l2_normalize).double().fit(iter(x.split(batches)))
    assert result.num_fitted == num

    # What rounding may do to both fits. Each entry of the covariance is a mean of products of deviations from a shift
    # within the features, and its factor is that of a matrix so far off again; with precision P an error of E changes
    # scores d'Pd / 2 by a part of |P||E|, and gradients Pd by that part of their length. Means are sums as well.
    scaled, length = (F.normalize(y), y.norm(dim=1)) if l2_normalize else (y, torch.ones(20))
    extent = torch.cdist(*[F.normalize(x) if l2_normalize else x] * 2).max()
    precision = expected.whitening.T @ expected.whitening
    norm = torch.linalg.matrix_norm(precision, 2)
    difference = scaled - expected.mean
    part = 2 * EPS * (num + 12**2) * extent**2 * norm
    shift = 2 * EPS * (num * extent + 12 * difference.norm(dim=1))
    scores = expected(y)
    assert part < 1e-3
    assert ((result(y) - scores).abs() <= part * scores + norm.sqrt() * (2 * scores).sqrt() * shift).all()
    allowed = (part * (difference @ precision).norm(dim=1) + norm * shift) / length
    assert ((result.gradient(y) - expected.gradient(y)).norm(dim=1) <= allowed).all()


@pytest.mark.parametrize("l2_normalize", [True, False])
def test_fit_of_batches_equals_sklearn(l2_normalize):
    x, y = features(), features(20, seed=1)
    scaled_x, scaled_y = (F.normalize(each).numpy() if l2_normalize else each.numpy() for each in (x, y))

    density = GaussianDensity(12, l2_normalize).double().fit(x.split(7))
    expected = 0.5 * LedoitWolf().fit(scaled_x).mahalanobis(scaled_y)
    np.testing.assert_allclose(density(y), expected, rtol=1e-7)


def test_fit_of_one_large_tensor_is_cut_to_slices():
    x = features(9000, 3)
    result = GaussianDensity(3, l2_normalize=False).double().fit([x])
    expected = 0.5 * LedoitWolf().fit(x.numpy()).mahalanobis(x[:9].numpy())
    np.testing.assert_allclose(result(x[:9]), expected, rtol=1e-7)


def test_features_made_under_inference_mode_are_accepted():
    with torch.inference_mode():
        x = features().float()
    density = GaussianDensity(12).fit(x.split(50))
    assert not density.mean.is_inference()
    assert not density(x.clone().requires_grad_()).isnan().any()


@pytest.mark.gpu
def test_fit_on_the_device_equals_the_host():
    x, y = features(), features(20, seed=1)
    host = GaussianDensity(12).double().fit(x.split(50))
    device = GaussianDensity(12).double().cuda().fit(x.cuda().split(50))
    torch.testing.assert_close(device(y.cuda()).cpu(), host(y), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("batches", "named"),
    [
        ([], "at least 2"),
        ([torch.zeros(1, 4)], "at least 2"),
        ([torch.zeros(5, 4), torch.zeros(5, 3)], r"shape \(N, 4\), got \(5, 3\)"),
        ([torch.zeros(5, 4, 1)], r"got \(5, 4, 1\)"),
        ([torch.zeros(4)], r"got \(4,\)"),
        ([torch.zeros(5, 4), torch.full((2, 4), torch.inf)], "finite"),
    ],
)
def test_bad_batches_are_named(batches, named):
    for l2_normalize in (True, False):
        density = GaussianDensity(4, l2_normalize=l2_normalize)
        with pytest.raises(ValueError, match=named):
            density.fit(batches)
        assert not density.is_fitted
