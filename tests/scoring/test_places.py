# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Distances of places, beside NumPy's."""

import numpy as np
import pytest
import torch

from anomalib_ssl.scoring import Places, join

SHAPE = (9, 4, 6)


def features(count, seed):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def fitted(normal, batch=70, contrast=True):
    places = Places("features", SHAPE, contrast)
    places.start()
    for part in normal.split(batch):
        places.update(part)
    places.finish()
    return places


@pytest.mark.parametrize("contrast", [True, False])
def test_distances_are_mahalanobis_ones(contrast):
    """All directions are kept, so that only the ridge tells them from plain ones."""
    normal, test = features(200, 0), 1.5 * features(3, 1)
    found = fitted(normal, contrast=contrast)(test)
    assert found.shape == (3, 1, 4, 6)

    x, y = normal.double().numpy(), test.double().numpy()
    if not contrast:
        x, y = (
            (each - each.mean(axis=(2, 3), keepdims=True)) / np.sqrt(each.var(axis=(2, 3), keepdims=True) + 1e-4)
            for each in (x, y)
        )
    covariances = np.einsum("nchw,ndhw->hwcd", *[x - x.mean(0)] * 2) / len(x)
    ridge = 0.01 * np.einsum("hwcc->hwc", covariances).mean()
    deviations = np.moveaxis(y - x.mean(0), 1, -1)
    solved = np.linalg.solve(covariances + ridge * np.eye(9), deviations[..., None])[..., 0]
    np.testing.assert_allclose(found[:, 0].numpy(), np.sqrt((deviations * solved).sum(-1)), rtol=1e-3)


def test_without_contrast_images_of_more_of_it_are_as_normal():
    normal, test = features(100, 0), features(3, 1)
    richer = 3 * test + 2
    assert (fitted(normal)(richer).mean(dim=(1, 2, 3)) > 2 * fitted(normal)(test).mean(dim=(1, 2, 3))).all()
    places = fitted(normal, contrast=False)
    torch.testing.assert_close(places(richer), places(test), rtol=1e-2, atol=1e-2)


def test_a_change_of_a_place_raises_its_distance_most():
    changed = features(1, 1)
    changed[0, :, 2, 4] += 20
    for contrast in (True, False):
        assert int(fitted(features(50, 0), contrast=contrast)(changed).argmax()) == 2 * 6 + 4


@pytest.mark.parametrize("batch", [1, 90, 200])
def test_batches_of_any_division_give_the_same(batch):
    normal, test = features(200, 0), features(3, 1)
    torch.testing.assert_close(fitted(normal, batch)(test), fitted(normal)(test), rtol=1e-4, atol=1e-4)


def test_training_images_can_be_compared_as_if_they_had_not_been_fitted_to():
    """All directions are kept and the ridge is small, so that only the image itself makes the difference."""

    def sharp(normal):
        places = fitted(normal)
        places.density.ridge = 1e-6
        places.start()
        places.update(normal)
        places.finish()
        return places

    normal = features(30, 0)
    places = sharp(normal)
    expected = torch.cat([sharp(torch.cat([normal[:i], normal[i + 1 :]]))(normal[i : i + 1]) for i in range(30)])
    torch.testing.assert_close(places.left_out(normal), expected, rtol=1e-3, atol=1e-3)
    # With fewer images than dimensions all of them lie at the same distance, and others far away.
    few = fitted(normal[:6])
    here, left_out, there = few(normal[:6]), few.left_out(normal[:6]), few(features(40, 1))
    assert here.std() < 0.05 * here.mean()
    assert here.mean() < 0.5 * there.mean()
    assert left_out.mean() == pytest.approx(float(there.mean()), rel=0.35)


def test_one_image_is_too_few():
    with pytest.raises(ValueError, match="at least 2 images"):
        fitted(features(1, 0))


def test_stages_are_joined_on_the_grid_of_the_middle_one():
    generator = torch.Generator().manual_seed(0)
    large, middle, small = (torch.randn(3, *shape, generator=generator) for shape in ((2, 8, 12), (3, 4, 6), (4, 2, 3)))
    joined = join([large, middle, small])
    assert joined.shape == (3, *SHAPE)
    torch.testing.assert_close(joined[:, :2], large.unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5)))
    assert torch.equal(joined[:, 2:5], middle)
    # Corners repeat the nearest place; between places it is linear, a quarter of the way off each.
    torch.testing.assert_close(joined[:, 5:, 0, 0], small[:, :, 0, 0])
    torch.testing.assert_close(joined[:, 5:, 0, 1], 0.75 * small[:, :, 0, 0] + 0.25 * small[:, :, 0, 1])
