# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How ST-SSAD aligns embeddings: invariants, and values in a setting that can be worked out."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from anomalib_ssl.models.st_ssad.alignment import mean_distance, normalize_embeddings, visibility


def rand_embeddings(*counts, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, generator=generator, dtype=torch.float64) + count % 3 for count in counts]


def test_normalised_embeddings_have_unit_total_pairwise_squared_distance():
    sets = rand_embeddings(7, 4, 9)
    normalized = normalize_embeddings(*sets)
    assert [len(one) for one in normalized] == [7, 4, 9]
    together = torch.cat(normalized)
    torch.testing.assert_close(together.mean(dim=0), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)
    assert together.square().sum(dim=1).mean() == pytest.approx(1)
    assert (cdist(together, together) ** 2).sum() == pytest.approx(2 * 20**2)


def test_scale_and_place_do_not_matter():
    train, augmented, unlabeled = rand_embeddings(6, 3, 6)
    expected = float(mean_distance(train, augmented, unlabeled))
    moved = [17.0 * one - 4.0 for one in (train, augmented, unlabeled)]
    assert mean_distance(*moved) == pytest.approx(expected, rel=1e-9)


def test_embeddings_that_are_all_alike_give_no_nan():
    same = torch.ones(4, 3)
    assert mean_distance(same, same, same).isfinite()
    assert visibility(same, same) == 0.5


TABLE = [
    # Share of anomalies, augmented per normal images: aligned, invisible, collapsed, opposite.
    (0.1, 1.0, (1.038, 1.061, 0.557, 1.141)),
    (0.3, 1.0, (1.009, 1.061, 1.000, 1.300)),
    (0.5, 1.0, (1.000, 1.061, 1.342, 1.455)),
    (0.7, 1.0, (1.009, 1.061, 1.655, 1.608)),
    (0.3, 0.5, (1.072, 1.250, 0.923, 1.429)),
    (0.3, 2.0, (1.011, 1.000, 1.139, 1.274)),
]


@pytest.mark.parametrize(("share", "ratio", "expected"), TABLE)
def test_values_of_points_on_a_line(share, ratio, expected):
    """Normal images embedded at 0, anomalies at 1, as many unlabelled as normal ones; augmented images where they are.

    They lie on the anomalies, at 1; there while the encoder does not see the anomalies, which lie at 0; on the normal
    images, at 0; and on the far side, at -1.
    """
    count = 1000
    anomalies = round(share * count)

    def points(value, number):
        return torch.full((number, 1), value, dtype=torch.float64)

    normal = points(0.0, count)
    mixed = torch.cat([points(0.0, count - anomalies), points(1.0, anomalies)])
    augmented = int(ratio * count)
    found = [
        mean_distance(normal, points(1.0, augmented), mixed),
        mean_distance(normal, points(1.0, augmented), normal),
        mean_distance(normal, points(0.0, augmented), mixed),
        mean_distance(normal, points(-1.0, augmented), mixed),
    ]
    assert [round(float(loss), 3) for loss in found] == pytest.approx(expected, abs=5e-4)


def test_distance_is_that_of_the_definition():
    train, augmented, unlabeled = (one.numpy() for one in rand_embeddings(5, 4, 6))
    together = np.concatenate([train, augmented, unlabeled])
    scale = np.sqrt(((together - together.mean(axis=0)) ** 2).sum(axis=1).mean())
    expected = 0
    for point in unlabeled:
        to_train, to_augmented = (np.linalg.norm(point - one.mean(axis=0)) for one in (train, augmented))
        expected += (to_train + to_augmented) / 2 / scale / len(unlabeled)
    found = mean_distance(*(torch.from_numpy(one) for one in (train, augmented, unlabeled)))
    assert float(found) == pytest.approx(expected)


def test_visibility_is_that_of_the_other_half():
    train, augmented = rand_embeddings(20, 9)
    expected = []
    for fitted, told in ((0, 1), (1, 0)):
        direction = augmented[fitted::2].mean(dim=0) - train[fitted::2].mean(dim=0)
        scores = torch.cat([train[told::2], augmented[told::2]]) @ direction
        labels = [0] * len(train[told::2]) + [1] * len(augmented[told::2])
        expected.append(roc_auc_score(labels, scores))
    assert float(visibility(train, augmented)) == pytest.approx(np.mean(expected))
