# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The validation loss of ST-SSAD: invariants, values in a setting that can be worked out, optimal transport."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from anomalib_ssl.models.st_ssad.sinkhorn import sinkhorn_divergence, transport_cost
from anomalib_ssl.models.st_ssad.validation_loss import (
    LOSSES,
    dsv_criterion,
    mean_distance_loss,
    normalize_embeddings,
    validation_loss,
)


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


@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_depend_on_scale_and_place(name):
    sets = rand_embeddings(6, 3, 6)
    moved = [17.0 * one - 4.0 for one in sets]
    assert validation_loss(*moved, name=name) == pytest.approx(float(validation_loss(*sets, name=name)), rel=1e-9)


def test_embeddings_that_are_all_alike_give_no_nan():
    same = [torch.ones(4, 3, requires_grad=True) for _ in range(3)]
    for name in LOSSES:
        loss = validation_loss(*same, name=name)
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, same))


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
        validation_loss(normal, points(1.0, augmented), mixed),
        validation_loss(normal, points(1.0, augmented), normal),
        validation_loss(normal, points(0.0, augmented), mixed),
        validation_loss(normal, points(-1.0, augmented), mixed),
    ]
    assert [round(float(loss), 3) for loss in found] == pytest.approx(expected, abs=5e-4)


def test_mean_distance_by_hand():
    train, augmented, unlabeled = (one.numpy() for one in rand_embeddings(5, 3, 4))
    expected = 0
    for point in unlabeled:
        expected += np.linalg.norm(point - train.mean(axis=0)) + np.linalg.norm(point - augmented.mean(axis=0))
    loss = mean_distance_loss(*map(torch.from_numpy, (train, augmented, unlabeled)))
    assert loss == pytest.approx(expected / 8)


def test_gradients_of_all_sets_equal_finite_differences():
    sets = [one.requires_grad_() for one in rand_embeddings(4, 3, 4, dim=2)]
    assert torch.autograd.gradcheck(validation_loss, sets)
    first, second = rand_embeddings(4, 3, dim=2)
    first, second = first.requires_grad_(), second.requires_grad_()
    converged = {"blur": 0.8, "iterations": 300}
    assert torch.autograd.gradcheck(lambda x, y: sinkhorn_divergence(x, y, **converged), (first, second))


def exact_transport(first, second):
    """Least mean cost of moving equal weights, as a linear programme."""
    cost = 0.5 * cdist(first, second) ** 2
    rows, cols = cost.shape
    constraints = [np.kron(np.eye(rows), np.ones(cols)), np.kron(np.ones(rows), np.eye(cols))]
    weights = np.concatenate([np.full(rows, 1 / rows), np.full(cols, 1 / cols)])
    return linprog(cost.ravel(), A_eq=np.vstack(constraints), b_eq=weights).fun


@pytest.mark.parametrize("counts", [(6, 6), (5, 8)])
def test_sinkhorn_tends_to_optimal_transport(counts):
    first, second = rand_embeddings(*counts, dim=3)
    exact = exact_transport(first.numpy(), second.numpy())
    errors = []
    for blur in (1.0, 0.3, 0.03):
        divergence = sinkhorn_divergence(first, second, blur=blur, steps=100, iterations=300)
        errors.append(abs(float(divergence) - exact))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 2e-3 * exact


def test_sinkhorn_plan_is_that_of_the_entropic_problem():
    # Reference: Sinkhorn's scaling of the kernel, in the plain domain and to convergence.
    first, second = rand_embeddings(4, 6, dim=2)
    cost = 0.5 * cdist(first, second) ** 2
    kernel = np.exp(-cost / 0.8**2)
    u, v = np.ones(4), np.ones(6)
    for _ in range(5000):
        u = (1 / 4) / (kernel @ v)
        v = (1 / 6) / (kernel.T @ u)
    plan = u[:, None] * kernel * v
    entropy = (plan * np.log(plan * 24)).sum()
    value = transport_cost(first, second, blur=0.8, iterations=500)
    assert float(value) == pytest.approx((plan * cost).sum() + 0.8**2 * entropy, rel=1e-6)


def test_sinkhorn_is_zero_for_the_same_set_and_symmetric():
    first, second = rand_embeddings(6, 9)
    assert float(sinkhorn_divergence(first, first.clone())) == pytest.approx(0, abs=1e-9)
    forth, back = sinkhorn_divergence(first, second), sinkhorn_divergence(second, first)
    assert float(forth) == pytest.approx(float(back), rel=1e-3)
    assert forth > 0


def test_dsv_criterion_by_hand():
    train, augmented, unlabeled = rand_embeddings(5, 3, 6)
    a, b, c = (
        one.numpy() / np.linalg.norm(one.numpy(), axis=1, keepdims=True) for one in (train, augmented, unlabeled)
    )
    between = np.mean([np.linalg.norm(x - y) / 2 for x in a for y in b])
    discordance = np.mean([np.linalg.norm(x - y) / 2 for x in [*a, *b] for y in c]) / between
    center = a.mean(axis=0)
    directions = [(y - center) / np.linalg.norm(y - center) for y in b]
    spread = np.std([(z - center) @ direction for z in c for direction in directions])
    expected = discordance - min(spread / between, 0.5) / discordance
    assert float(dsv_criterion(train, augmented, unlabeled)) == pytest.approx(expected)


def test_dsv_criterion_prefers_augmented_images_on_the_anomalies():
    generator = torch.Generator().manual_seed(0)

    def around(*center):
        return torch.tensor(center) + 0.05 * torch.randn(50, 3, generator=generator)

    normal, anomalies, elsewhere = around(1.0, 0.0, 0.0), around(0.0, 1.0, 0.0), around(0.0, 0.0, 1.0)
    mixed = torch.cat([around(1.0, 0.0, 0.0), anomalies])
    aligned, apart = (dsv_criterion(normal, augmented, mixed) for augmented in (around(0.0, 1.0, 0.0), elsewhere))
    assert aligned < apart
    assert math.isfinite(aligned)
