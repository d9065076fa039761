# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Losses of DynamicLocalAugmentation against NumPy and loops, and what they compare."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.heads import DenseHead, GlobalHead, Projection
from anomalib_ssl.models.dynamic_local_augmentation.loss import (
    ContrastiveLoss,
    dense_loss,
    draw_partners,
    global_loss,
    local_loss,
    match_places,
    negative_loss,
)
from anomalib_ssl.models.dynamic_local_augmentation.pooling import average_pool
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import Embeddings
from anomalib_ssl.models.dynamic_local_augmentation.views import TrainingViews


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def negative_cosine(p, z):
    p, z = np.asarray(p.detach(), np.float64), np.asarray(z.detach(), np.float64)
    return -np.sum(p * z, axis=1) / np.linalg.norm(p, axis=1) / np.linalg.norm(z, axis=1)


def test_global_loss_equals_numpy_and_stops_the_gradient():
    first, second = (
        Projection(rand(5, 8, seed=n).requires_grad_(), rand(5, 8, seed=n + 9).requires_grad_()) for n in (0, 1)
    )
    partners = torch.tensor([0, 2, 1, 3, 0])
    loss = global_loss(first, second, partners)
    expected = 0.5 * np.mean(
        negative_cosine(first.predicted, second.projected[partners])
        + negative_cosine(second.predicted, first.projected[partners])
    )
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    loss.backward()
    assert first.projected.grad is None
    assert second.projected.grad is None
    assert first.predicted.grad.abs().sum() > 0


def test_a_partner_is_the_image_itself_or_any_other_with_equal_chances():
    torch.manual_seed(0)
    drawn = torch.stack([draw_partners(8) for _ in range(500)])
    # 4,000 draws: these bounds are about four and six standard deviations wide.
    assert float((drawn == torch.arange(8)).float().mean()) == pytest.approx(0.5, abs=0.03)
    counts = torch.bincount(((drawn - torch.arange(8)) % 8).flatten(), minlength=8)[1:]
    assert counts.min() > 0.7 * counts.float().mean()
    assert draw_partners(1).tolist() == [0]


def test_dense_loss_equals_a_loop():
    first, second = (Projection(rand(2, 4, 3, 3, seed=n), rand(2, 4, 3, 3, seed=n + 9)) for n in (0, 1))
    features = rand(2, 5, 3, 3, seed=5), rand(2, 5, 3, 3, seed=6)
    there, back = match_places(*features), match_places(*features[::-1])
    total = 0.0
    for one, other, own, theirs, match in (
        (first, second, features[0], features[1], there),
        (second, first, features[1], features[0], back),
    ):
        for i in range(2):
            for s in range(9):
                cosines = F.cosine_similarity(own[i].flatten(1)[:, s : s + 1], theirs[i].flatten(1), dim=0)
                t = int(cosines.argmax())
                assert t == int(match[i, s])
                p, z = one.predicted[i].flatten(1)[:, s], other.projected[i].flatten(1)[:, t]
                total += float(negative_cosine(p[None], z[None])[0]) / 18
    assert float(dense_loss(first, second, *features)) == pytest.approx(total / 2, abs=1e-6)


def test_negative_loss_leaves_unchanged_images_out():
    normal = Projection(rand(3, 8, seed=0), rand(3, 8, seed=1))
    augmented = Projection(rand(3, 8, seed=2), rand(3, 8, seed=3))
    changed = torch.tensor([True, False, True])
    there, back = (
        negative_cosine(one.predicted, two.projected) for one, two in ((normal, augmented), (augmented, normal))
    )
    expected = -0.5 * (there + back)[changed.numpy()].mean()
    assert float(negative_loss(normal, augmented, changed)) == pytest.approx(expected, abs=1e-6)
    # Nothing could be changed: the loss and its gradient vanish instead of becoming NaN.
    predicted = rand(3, 8).requires_grad_()
    loss = negative_loss(Projection(normal.projected, predicted), augmented, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert torch.equal(predicted.grad, torch.zeros(3, 8))


def test_local_loss_equals_a_loop_over_places():
    normal, augmented = (Projection(rand(2, 4, 3, 3, seed=n), rand(2, 4, 3, 3, seed=n + 9)) for n in (0, 1))
    # Places of 2 x 2 pixels: one is changed, one in half, one by a quarter, which counts for neither.
    masks = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    masks[0, 0, :2, :2] = True
    masks[0, 0, 2, 2:4] = True
    masks[1, 0, 5, 5] = True
    likeness = -0.5 * (
        negative_cosine(normal.predicted, augmented.projected) + negative_cosine(augmented.predicted, normal.projected)
    )
    changed, border = [(0, 0, 0), (0, 1, 1)], (1, 2, 2)
    others = [place for place in np.ndindex(2, 3, 3) if place not in [*changed, border]]
    expected = np.mean([likeness[place] for place in changed]) - np.mean([likeness[place] for place in others])
    assert float(local_loss(normal, augmented, masks)) == pytest.approx(expected, abs=1e-6)
    unchanged = float(local_loss(normal, augmented, torch.zeros_like(masks)))
    assert unchanged == pytest.approx(-likeness.mean(), abs=1e-6)


def test_total_is_the_weighted_sum_and_negatives_are_compared_with_first_views():
    both = Projection(rand(8, 6, seed=0), rand(8, 6, seed=1))
    places, features = Projection(rand(8, 6, 2, 2, seed=2), rand(8, 6, 2, 2, seed=3)), rand(8, 5, 2, 2, seed=4)
    changed = torch.tensor([True, True, False, True])
    views = TrainingViews(torch.zeros(12, 3, 8, 8), changed.view(-1, 1, 1, 1).expand(-1, -1, 8, 8))
    loss = ContrastiveLoss(0.7, 0.2)
    terms = loss(Embeddings(both, features, places, both, places), views)
    parts = terms.parts
    assert float(terms.total) == pytest.approx(
        float(parts["global"] + 0.1 * parts["dense"] + 0.7 * parts["negative"] + 0.2 * parts["local"]), abs=1e-6
    )
    first, second = both.halves()
    assert torch.equal(first.projected, both.projected[:4])
    assert torch.equal(parts["negative"], negative_loss(first, second, changed))
    assert torch.equal(parts["dense"], dense_loss(*places.halves(), features[:4], features[4:]))
    assert torch.equal(parts["local"], local_loss(*places.halves(), views.masks))
    alone = loss(Embeddings(both, features, places, None, None), TrainingViews(torch.zeros(8, 3, 8, 8), None))
    assert list(alone.parts) == ["global", "dense"]


def test_first_views_meet_second_ones_and_their_augmented_versions():
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(image_size=(64, 64), backbone="test_resnet", mc_samples=0)
    images = torch.rand(9, 3, 64, 64)
    pooled, maps = rand(9, 96, seed=1), rand(9, 48, 16, 16, seed=2)
    model.encoder.forward = lambda _: (pooled, maps)
    embeddings = model(images)
    torch.testing.assert_close(embeddings.global_.projected, model.global_head(pooled[:6]).projected)
    torch.testing.assert_close(
        embeddings.negative.projected, model.negative_head(torch.cat([pooled[:3], pooled[6:]])).projected
    )
    assert embeddings.dense.projected.shape == (6, 128, 14, 14)
    torch.testing.assert_close(embeddings.dense_features, F.adaptive_avg_pool2d(maps[:6], 14))
    assert embeddings.local is None


def test_places_of_first_views_meet_those_of_their_augmented_versions():
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(
        image_size=(64, 64), backbone="test_resnet", mc_samples=0, use_negative=False, use_local=True
    )
    pooled, maps = rand(9, 96, seed=1), rand(9, 48, 14, 14, seed=2)
    model.encoder.forward = lambda _: (pooled, maps)
    embeddings = model(torch.rand(9, 3, 64, 64))
    assert embeddings.negative is None
    places = model.dense_head(maps)
    torch.testing.assert_close(embeddings.dense.projected, places.projected[:6])
    torch.testing.assert_close(embeddings.local.predicted, torch.cat([places.predicted[:3], places.predicted[6:]]))
    torch.testing.assert_close(embeddings.dense_features, maps[:6])


def test_heads_have_the_layers_they_claim():
    head = GlobalHead(512, 2048)
    widths = [m.weight.shape for m in head.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [(512, 512), (512, 512), (2048, 512), (512, 2048), (2048, 512)]
    assert not head.projector[-1].affine
    dense = DenseHead(128, 128)
    assert dense(rand(2, 128, 3, 3)).predicted.shape == (2, 128, 3, 3)
    assert [m.weight.shape[:2] for m in dense.modules() if isinstance(m, torch.nn.Conv2d)] == [
        (512, 128),
        (128, 512),
        (32, 128),
        (128, 32),
    ]


@pytest.mark.parametrize(
    ("size", "grid"),
    [((28, 28), (14, 14)), ((15, 20), (14, 14)), ((7, 5), (7, 5)), ((17, 9), (5, 4)), ((6, 3), (1, 3))],
)
def test_average_pool_equals_adaptive_pooling(size, grid):
    features, gradient = rand(2, 3, *size), rand(2, 3, *grid, seed=1)
    own, expected = (features.clone().requires_grad_() for _ in range(2))
    pooled, reference = average_pool(own, *grid), F.adaptive_avg_pool2d(expected, grid)
    torch.testing.assert_close(pooled, reference, rtol=0, atol=1e-6)
    pooled.backward(gradient)
    reference.backward(gradient)
    torch.testing.assert_close(own.grad, expected.grad, rtol=0, atol=1e-6)
