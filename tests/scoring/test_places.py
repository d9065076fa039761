# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Distances of places, beside NumPy's."""

import numpy as np
import pytest
import torch

from anomalib_ssl.scoring import NotFittedError, PlaceDistance

SHAPES = [(2, 8, 12), (3, 4, 6), (4, 2, 3)]


def stages(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *shape, generator=generator) for shape in SHAPES]


def test_distances_are_those_of_the_joined_features():
    """All directions are kept, so that only the ridge tells them from plain Mahalanobis distances."""
    normal, test = stages(200, 0), stages(3, 1)
    places = PlaceDistance(SHAPES)
    places.fit(lambda: [[stage[:70] for stage in normal], [stage[70:] for stage in normal]])
    found = places(test)
    assert found.shape == (3, 1, 4, 6)

    def joined(maps):
        large, middle, small = (stage.double() for stage in maps)
        large = large.unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean(dim=(3, 5))
        small = torch.nn.functional.interpolate(small, (4, 6), mode="bilinear")
        return torch.cat([large, middle, small], dim=1).numpy()

    features, tested = joined(normal), joined(test)
    covariances = np.einsum("nchw,ndhw->hwcd", *[features - features.mean(0)] * 2) / len(features)
    ridge = 0.01 * np.einsum("hwcc->hwc", covariances).mean()
    deviations = np.moveaxis(tested - features.mean(0), 1, -1)
    solved = np.linalg.solve(covariances + ridge * np.eye(9), deviations[..., None])[..., 0]
    expected = np.sqrt((deviations * solved).sum(-1))
    np.testing.assert_allclose(found[:, 0].numpy(), expected, rtol=1e-3)


def test_a_change_of_a_place_raises_its_distance_most():
    normal, changed = stages(50, 0), stages(1, 1)
    places = PlaceDistance(SHAPES)
    places.fit(lambda: [normal])
    changed[1][0, :, 2, 4] += 20
    assert int(places(changed).argmax()) == 2 * 6 + 4


def test_what_does_not_fit_is_refused():
    places = PlaceDistance(SHAPES)
    with pytest.raises(NotFittedError):
        places(stages(1, 0))
    with pytest.raises(ValueError, match="at least 2 images"):
        places.fit(lambda: [stages(1, 0)])
    places.fit(lambda: [stages(5, 0)])
    assert PlaceDistance(SHAPES).load_state_dict(places.state_dict())
