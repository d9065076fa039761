# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""One density a location against loops in numpy."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring import GaussianDensity, LocatedGaussianDensity, NotFittedError, as_rows, density_map

GRID = (3, 4)


def features(num=20, dim=10, seed=0):
    """Feature maps of which each location has a mean and a covariance of its own."""
    generator = torch.Generator().manual_seed(99)
    mixing = torch.randn(12, dim, dim, generator=generator, dtype=torch.float64)
    mean = torch.randn(12, 1, dim, generator=generator, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    samples = torch.randn(12, num, dim, generator=generator, dtype=torch.float64) @ mixing + 2 * mean
    return samples.permute(1, 2, 0).unflatten(2, GRID)


def reference(train, test, dims, l2_normalize, ridge):
    """Scores of the test maps, location by location, in directions of the first 64 training images."""
    if l2_normalize:
        train, test = F.normalize(train), F.normalize(test)
    rows = as_rows(train[:64]).numpy()
    _, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
    basis = directions[:, ::-1][:, :dims]
    train, test = as_rows(train).numpy() @ basis, as_rows(test).numpy() @ basis
    train, test = train.reshape(-1, *GRID, dims), test.reshape(-1, *GRID, dims)
    added = ridge * train.var(axis=0).mean()
    scores = np.zeros((len(test), 1, *GRID))
    for i, j in np.ndindex(GRID):
        covariance = np.cov(train[:, i, j].T, bias=True).reshape(dims, dims) + added * np.eye(dims)
        deviation = test[:, i, j] - train[:, i, j].mean(axis=0)
        scores[:, 0, i, j] = 0.5 * np.sum(deviation @ np.linalg.inv(covariance) * deviation, axis=1)
    return scores


@pytest.mark.parametrize("num", [150, 40, 5])
@pytest.mark.parametrize("dims", [1, 6, 10])
@pytest.mark.parametrize("l2_normalize", [True, False])
def test_scores_equal_numpy(l2_normalize, dims, num):
    train, test = features(num), features(7, seed=1)
    density = LocatedGaussianDensity(10, GRID, dims, l2_normalize).double()
    result = density.fit(train.split(3))(test)
    expected = reference(train, test, dims, l2_normalize, 0.01)
    np.testing.assert_allclose(result, expected, rtol=1e-8, atol=1e-9)
    assert density.num_fitted == num


def test_each_kind_of_feature_has_its_own_directions_at_the_same_variance():
    train, test = features(40), features(7, seed=1)
    kinds = (4, 6), (3, 2)
    density = LocatedGaussianDensity(kinds[0], GRID, kinds[1], l2_normalize=False).double().fit(train.split(8))
    projected, start = [], 0
    for length, number in zip(*kinds, strict=True):
        rows = as_rows(train[:, start : start + length]).numpy()
        _, directions = np.linalg.eigh(np.cov(rows.T, bias=True))
        basis = directions[:, ::-1][:, :number]
        basis = basis / np.sqrt((rows @ basis).var(axis=0).mean())
        projected.append(
            [
                torch.einsum("bdhw,dk->bkhw", part[:, start : start + length], torch.from_numpy(basis))
                for part in (train, test)
            ]
        )
        start += length
    train_kept, test_kept = (torch.cat(parts, dim=1) for parts in zip(*projected, strict=True))
    expected = reference(train_kept, test_kept, sum(kinds[1]), l2_normalize=False, ridge=0.01)
    np.testing.assert_allclose(density(test), expected, rtol=1e-8, atol=1e-9)


def test_the_scale_of_a_kind_of_feature_does_not_matter():
    train, test = features(40), features(7, seed=1)
    scale = torch.ones(10, 1, 1, dtype=torch.float64)
    scale[4:] = 1e3
    density = LocatedGaussianDensity((4, 6), GRID, (3, 2), l2_normalize=False).double()
    expected = density.fit([train])(test)
    torch.testing.assert_close(density.fit([scale * train])(scale * test), expected)
    together = LocatedGaussianDensity(10, GRID, 5, l2_normalize=False).double()
    assert not torch.allclose(together.fit([scale * train])(scale * test), together.fit([train])(test), rtol=0.1)


def test_each_kind_of_feature_needs_a_number_of_directions():
    with pytest.raises(ValueError, match=r"dims must be one number for each of num_features, \[4, 6\], got \[3\]"):
        LocatedGaussianDensity((4, 6), GRID, 3)
    with pytest.raises(ValueError, match="dims"):
        LocatedGaussianDensity((4, 6), GRID, (5, 1))
    with pytest.raises(TypeError, match=r"dims must be .* got 3\.5"):
        LocatedGaussianDensity(10, GRID, 3.5)


@pytest.mark.parametrize("batch", [1, 7, 64, 100])
def test_batching_does_not_matter(batch):
    train, test = features(150), features(7, seed=1)
    whole = LocatedGaussianDensity(10, GRID, 6).double().fit([train])
    parts = LocatedGaussianDensity(10, GRID, 6).double().fit(iter(train.split(batch)))
    torch.testing.assert_close(parts(test), whole(test), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_features_of_any_precision_are_scored(dtype):
    x = features().to(dtype)
    density = LocatedGaussianDensity(10, tuple(x.shape[-2:]), 6).fit([x])
    torch.testing.assert_close(density(x), density(x.float()))


def test_float32_scores_stay_close_to_float64():
    train, test = features(40).float(), features(7, seed=1).float()
    single = LocatedGaussianDensity(10, GRID, 10).fit(train.split(8))
    double = LocatedGaussianDensity(10, GRID, 10).double().fit(train.double().split(8))
    torch.testing.assert_close(single(test).double(), double(test.double()), rtol=1e-3, atol=1e-4)


def test_basis_is_orthonormal_and_holds_most_variance():
    train = features()
    density = LocatedGaussianDensity(10, GRID, 4, l2_normalize=False).double().fit([train])
    torch.testing.assert_close(density.projection @ density.projection.T, torch.eye(4, dtype=torch.float64))
    rows = as_rows(train)
    kept = (rows @ density.projection.T).var(dim=0, unbiased=False).sum()
    largest = torch.linalg.eigvalsh(rows.T.cov(correction=0))[-4:].sum()
    torch.testing.assert_close(kept, largest)


def test_all_dimensions_equal_a_gaussian_at_each_location():
    train, test = features(60), features(7, seed=1)
    scores = LocatedGaussianDensity(10, GRID, 10, l2_normalize=False).double().fit([train])(test)
    ridge = 0.01 * train.var(dim=0, correction=0).mean().item()
    for i, j in np.ndindex(GRID):
        here = train[:, :, i, j]
        covariance = here.T.cov(correction=0) + ridge * torch.eye(10, dtype=torch.float64)
        deviations = test[:, :, i, j] - here.mean(dim=0)
        expected = 0.5 * (deviations * torch.linalg.solve(covariance, deviations.T).T).sum(dim=1)
        torch.testing.assert_close(scores[:, 0, i, j], expected)


@pytest.mark.parametrize("num", [5, 40])
def test_ridge_follows_the_scale_of_the_features(num):
    train, test = features(num), features(7, seed=1)
    density = LocatedGaussianDensity(10, GRID, 10, l2_normalize=False).double()
    expected = density.fit([train])(test)
    torch.testing.assert_close(density.fit([1e3 * train])(1e3 * test), expected)
    assert expected.isfinite().all()


def test_locations_without_any_variance_have_finite_scores():
    train = features()
    train[:, :, 1, 2] = train[:1, :, 1, 2]
    density = LocatedGaussianDensity(10, GRID, 10).double().fit([train])
    scores = density(train)
    assert scores.isfinite().all()
    assert scores[:, 0, 1, 2].max() < 1e-6
    alike = LocatedGaussianDensity(10, GRID, 10).fit([train[:1].float().expand(3, -1, -1, -1)])
    assert alike(train.float()).isfinite().all()


def test_a_feature_at_the_wrong_location_is_anomalous():
    train, test = features(60), features(7, seed=1)
    density = LocatedGaussianDensity(10, GRID, 10).double().fit([train])
    assert (density(test.flip(3)).mean(dim=0) > 2 * density(test).mean(dim=0)).all()
    # To the shared density, locations are all the same.
    shared = GaussianDensity(10).double().fit([as_rows(train)])
    torch.testing.assert_close(density_map(shared, test.flip(3)), density_map(shared, test).flip(3))


def test_density_map_equals_a_loop():
    train, test = features(), features(7, seed=1)
    density = GaussianDensity(10).double().fit(as_rows(batch) for batch in train.split(6))
    scores = density_map(density, test)
    assert scores.shape == (7, 1, *GRID)
    for i, j in np.ndindex(GRID):
        torch.testing.assert_close(scores[:, 0, i, j], density(test[:, :, i, j]))


def test_state_of_another_grid_is_refused():
    with pytest.raises(RuntimeError, match="size mismatch"):
        LocatedGaussianDensity(10, (3, 3), 6).load_state_dict(LocatedGaussianDensity(10, GRID, 6).state_dict())


def test_a_state_brings_its_number_of_directions():
    saved, density = LocatedGaussianDensity(10, GRID, 8).double(), LocatedGaussianDensity(10, GRID, 6).double()
    density.load_state_dict(saved.fit([features()]).state_dict())
    torch.testing.assert_close(density(features(4, seed=1)), saved(features(4, seed=1)))
    # A fit finds as many as it was made for.
    expected = LocatedGaussianDensity(10, GRID, 6).double().fit([features()])
    torch.testing.assert_close(density.fit([features()])(features(4, seed=1)), expected(features(4, seed=1)))


def test_what_is_fitted_in_a_validation_can_be_fitted_again():
    """After a state of another number of directions, too, for which there has to be made room again."""
    density = LocatedGaussianDensity(10, GRID, 6)
    density.load_state_dict(LocatedGaussianDensity(10, GRID, 8).state_dict())
    with torch.inference_mode():  # as Lightning validates
        density.fit([features().float()])
    assert len(density.fit([features().float()]).projection) == 6


def test_what_is_not_finite_is_refused_also_after_the_directions_were_found():
    density = LocatedGaussianDensity(10, GRID, 6).fit([features()])
    with pytest.raises(ValueError, match="finite"):
        density.fit([features(70).float(), features(1).float() / 0])
    with pytest.raises(NotFittedError):
        density(features().float())


@pytest.mark.gpu
def test_fit_on_the_device_equals_the_host():
    train, test = features(40), features(7, seed=1)
    host = LocatedGaussianDensity(10, GRID, 6).double().fit(train.split(9))
    device = LocatedGaussianDensity(10, GRID, 6).double().cuda().fit(train.cuda().split(9))
    torch.testing.assert_close(device(test.cuda()).cpu(), host(test), rtol=1e-6, atol=1e-6)


def fit(batches):
    return LocatedGaussianDensity(10, GRID, 6).fit(batches)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: LocatedGaussianDensity(10, GRID, 11), "dims must lie in"),
        (lambda: LocatedGaussianDensity(10, GRID, 0), "dims"),
        (lambda: LocatedGaussianDensity(10, (3, 0), 6), "grid_size"),
        (lambda: fit([]), "at least 2 images, got 0"),
        (lambda: fit([features(1)]), "at least 2 images, got 1"),
        (lambda: fit([features().mT]), r"\(B, 10, 3, 4\), got \(20, 10, 4, 3\)"),
        (lambda: fit([features() / 0]), "finite"),
        (lambda: fit([features()])(features(dim=9)), r"got \(20, 9, 3, 4\)"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
