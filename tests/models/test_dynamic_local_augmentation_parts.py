# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Parts of DynamicLocalAugmentation: dropout, encoder, losses, views, mean maps, collapse, choice of weights."""

import logging
import math

import numpy as np
import pytest
import timm
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import LocalAugmentation, RandomShift
from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.collapse import CollapseMonitor, spread
from anomalib_ssl.models.dynamic_local_augmentation.deviation import MapDeviation
from anomalib_ssl.models.dynamic_local_augmentation.encoder import Encoder
from anomalib_ssl.models.dynamic_local_augmentation.heads import DenseHead, GlobalHead, Projection
from anomalib_ssl.models.dynamic_local_augmentation.loss import (
    ContrastiveLoss,
    dense_loss,
    draw_partners,
    global_loss,
    match_by_feature,
    negative_loss,
)
from anomalib_ssl.models.dynamic_local_augmentation.selection import (
    ALPHAS,
    augmented_errors,
    best_alpha,
    pixel_auroc,
)
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews, match_by_place
from anomalib_ssl.scoring import NotFittedError

SMALL = {"backbone": "test_resnet", "image_size": (64, 64), "proj_dim": 32, "dense_dim": 8}


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# Encoder and dropout.


def test_scored_maps_are_those_of_the_backbone_and_later_stages_are_not_run():
    torch.manual_seed(0)
    encoder = Encoder("resnet10t", score_layers=("layer2", "layer1"), dropout_p=0.0).eval()
    images = rand_images(2, 3, 64, 64)
    network = encoder.backbone.network
    with torch.no_grad():
        maps = encoder.maps(images)
        x = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(encoder.normalized(images))))))
        torch.testing.assert_close(maps[0], x)
        torch.testing.assert_close(maps[1], network.layer2(x))
        pooled, dense = encoder(images)
        torch.testing.assert_close(dense, maps[1])
        torch.testing.assert_close(pooled, network.forward_features(encoder.normalized(images)).mean(dim=(2, 3)))
        network.layer3 = torch.nn.Identity()
        network.layer4 = None
        torch.testing.assert_close(encoder.maps(images)[1], maps[1])
    assert encoder.num_score_features == [64, 128]


@pytest.mark.parametrize("backbone", ["resnet10t", "test_efficientnet"])
def test_dropout_sits_inside_the_blocks_before_a_convolution(backbone):
    layers = {"resnet10t": ("layer1", "layer2"), "test_efficientnet": ("blocks.1", "blocks.2")}[backbone]
    encoder = Encoder(backbone, score_layers=layers, dense_layer=layers[0], dropout_p=0.3)
    plain = Encoder(backbone, score_layers=layers, dense_layer=layers[0], dropout_p=0.0)
    assert len(encoder.dropouts) >= 3
    assert plain.dropouts == []
    # Weights load as those of a network without dropout did: it is inserted afterwards.
    names = [name.replace(".1.weight", ".weight") for name in encoder.state_dict() if "kept" not in name]
    assert {name for name in plain.state_dict() if "conv2" in name} <= set(names)
    images = rand_images(4, 3, 64, 64)
    encoder.eval()
    with torch.no_grad():
        assert torch.equal(encoder.maps(images)[0], encoder.maps(images)[0])
    for dropout in encoder.dropouts:
        dropout.train()
    with torch.no_grad():
        assert not torch.equal(encoder.maps(images)[1], encoder.maps(images)[1])


def test_pretrained_weights_are_loaded_before_dropout_is_inserted(monkeypatch):
    create, asked = timm.create_model, []

    def create_model(name, pretrained=False, **kwargs):
        asked.append(pretrained)
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_model)
    Encoder("test_resnet", pre_trained=True)
    assert asked == [True]


@torch.no_grad()
def test_passes_equal_dropout_by_hand():
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", dropout_p=0.4, mc_samples=3).eval()
    images = rand_images(2, 3, 64, 64)
    together = encoder.passes(images, range(4))
    in_parts = [encoder.passes(images, part) for part in (range(1), range(1, 3), range(3, 4))]
    for stage, maps in enumerate(together):
        torch.testing.assert_close(torch.cat([part[stage] for part in in_parts]), maps)
        torch.testing.assert_close(maps[0], encoder.maps(images)[stage])
        assert not torch.allclose(maps[1], maps[2])
    # A pass is the network with some input channels of these convolutions at 0 and the others enlarged.
    kept = [dropout.kept[2].flatten() for dropout in encoder.dropouts]
    assert all((values - 1 / 0.6).abs().minimum(values).max() < 1e-6 for values in kept)
    convolutions = [
        block.conv2[1]
        for block in encoder.backbone.network.modules()
        if isinstance(getattr(block, "conv2", None), torch.nn.Sequential)
    ]
    for convolution, values in zip(convolutions, kept, strict=True):
        convolution.weight.mul_(values.view(1, -1, 1, 1))
    for by_hand, maps in zip(encoder.maps(images), together, strict=True):
        torch.testing.assert_close(by_hand, maps[2], atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["channel", "element"])
def test_random_masks_differ_between_calls_and_images(kind):
    encoder = Encoder("test_resnet", dropout_p=0.4, dropout_kind=kind, mc_masks="random", mc_samples=3).eval()
    images = rand_images(1, 3, 64, 64).expand(2, -1, -1, -1)
    maps, again = encoder.passes(images, range(4))[0], encoder.passes(images, range(4))[0]
    torch.testing.assert_close(maps[0], again[0])
    assert not torch.equal(maps[1], again[1])
    assert not torch.equal(maps[1, 0], maps[1, 1])
    # No statistics of batch norm were touched, nothing is left in training mode.
    assert not any(module.training for module in encoder.modules())


@pytest.mark.parametrize("chunk", [2, 4, 20])
@torch.no_grad()
def test_variance_is_that_over_the_passes(chunk):
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**SMALL, mc_samples=5, dropout_p=0.3, mc_chunk=chunk, feature_norm="none")
    model.eval()
    images = rand_images(3, 3, 64, 64)
    clean, variances = model.measure(images)
    for features, variance, maps in zip(clean, variances, model.encoder.passes(images, range(6)), strict=True):
        torch.testing.assert_close(features, maps[0])
        torch.testing.assert_close(variance, maps[1:].double().var(dim=0, correction=0).float(), atol=1e-6, rtol=1e-3)
        assert variance.max() > 0


# Heads and losses.


def heads(batch=6, seed=0):
    torch.manual_seed(seed)
    head = GlobalHead(16, 8)
    return head, Projection(*(values[:batch] for values in head(rand(2 * batch, 16)))), rand(batch, 8)


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


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_partners(probability):
    drawn = torch.stack([draw_partners(8, probability, generator=torch.Generator().manual_seed(n)) for n in range(500)])
    same = (drawn == torch.arange(8)).float().mean()
    assert float(same) == pytest.approx(1 - probability, abs=0.03)
    if probability:
        counts = torch.bincount(((drawn - torch.arange(8)) % 8).flatten(), minlength=8)[1:]
        assert counts.min() > 0.8 * counts.float().mean()
    assert draw_partners(1, 1.0).tolist() == [0]


def test_dense_loss_equals_a_loop():
    first, second = (Projection(rand(2, 4, 3, 3, seed=n), rand(2, 4, 3, 3, seed=n + 9)) for n in (0, 1))
    features = rand(2, 5, 3, 3, seed=5), rand(2, 5, 3, 3, seed=6)
    there, back = match_by_feature(*features), match_by_feature(*features[::-1])
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
    assert float(dense_loss(first, second, there, back)) == pytest.approx(total / 2, abs=1e-6)


def test_dense_loss_leaves_places_without_a_match_out():
    first, second = (Projection(rand(1, 4, 2, 2, seed=n), rand(1, 4, 2, 2, seed=n + 9)) for n in (0, 1))
    only = torch.tensor([[-1, 3, -1, -1]])
    expected = negative_cosine(first.predicted[0, :, 0, 1][None], second.projected[0, :, 1, 1][None])[0]
    assert float(dense_loss(first, second, only, torch.full((1, 4), -1))) == pytest.approx(0.5 * expected, abs=1e-6)


def test_negative_loss_weighs_pairs_and_leaves_unchanged_images_out():
    normal = Projection(rand(3, 8, seed=0), rand(3, 8, seed=1))
    augmented = Projection(rand(6, 8, seed=2), rand(6, 8, seed=3))
    weights = torch.tensor([[0.2, 0.5], [0.0, 0.0], [0.0, 0.9]])
    total = 0.0
    for i, k in ((0, 0), (0, 1), (2, 1)):
        one = negative_cosine(normal.predicted[i][None], augmented.projected[k * 3 + i][None])[0]
        two = negative_cosine(augmented.predicted[k * 3 + i][None], normal.projected[i][None])[0]
        total -= 0.5 * (one + two) * float(weights[i, k])
    assert float(negative_loss(normal, augmented, weights)) == pytest.approx(total / 1.6, abs=1e-6)
    # Nothing could be changed: the loss and its gradient vanish instead of becoming NaN.
    predicted = rand(3, 8).requires_grad_()
    loss = negative_loss(Projection(normal.projected, predicted), augmented, torch.zeros(3, 2))
    loss.backward()
    assert float(loss) == 0
    assert torch.equal(predicted.grad, torch.zeros(3, 8))


def test_negative_margin():
    vector = torch.tensor([[1.0, 0.0]])
    opposite = Projection(-vector, -vector)
    assert float(negative_loss(Projection(vector, vector), opposite, torch.ones(1, 1))) == pytest.approx(-1)
    assert float(negative_loss(Projection(vector, vector), opposite, torch.ones(1, 1), margin=-0.3)) == pytest.approx(
        -0.3
    )


def test_total_loss_and_what_is_left_out():
    terms = ContrastiveLoss(1.0, 0.1, 0.5)(torch.tensor(-0.5), torch.tensor(-0.2), torch.tensor(0.3))
    assert float(terms.total) == pytest.approx(-0.5 - 0.02 + 0.15)
    assert float(ContrastiveLoss()(torch.tensor(-0.5)).total) == -0.5


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


# Collapse.


def test_spread_of_spread_and_collapsed_vectors():
    assert float(spread(rand(2000, 128))) == pytest.approx(1, abs=0.02)
    assert float(spread(torch.ones(10, 128))) == 0
    near = torch.ones(100, 128) + 0.05 * rand(100, 128)
    assert float(spread(near)) < 0.1


def test_collapse_is_warned_about_once(caplog):
    monitor = CollapseMonitor(interval=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            monitor.update(torch.tensor(0.9))
        assert caplog.records == []
        for _ in range(20):
            monitor.update(torch.tensor(0.05))
    (record,) = caplog.records
    assert "collapsed" in record.getMessage()
    assert "0.05" in record.getMessage()


# Views.


def coordinate_images(batch, height, width):
    """Images that tell where they are: red is the row, green the column, as shares of 512 pixels."""
    rows = ((torch.arange(height) + 0.5) / 512).view(1, -1, 1).expand(batch, height, width)
    cols = ((torch.arange(width) + 0.5) / 512).view(1, 1, -1).expand(batch, height, width)
    return torch.stack([rows, cols, torch.zeros_like(rows)], dim=1)


@pytest.mark.parametrize("preset", ["mild", "simsiam"])
@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_views_know_where_they_are_and_places_match(preset, size, monkeypatch):
    from anomalib_ssl.models.dynamic_local_augmentation import views

    monkeypatch.setattr(views, "_recolored", lambda images, *args: images)
    images = coordinate_images(40, *size)
    make = GlobalViews(preset)
    generator = torch.Generator().manual_seed(0)
    first, second = make(images, generator), make(images, generator)
    expected_size = {(64, 64): (56, 56), (64, 96): (56, 80)}[size]
    assert first.images.shape[-2:] == second.images.shape[-2:] == expected_size
    for view in (first, second):
        rows, cols = ((torch.arange(side) + 0.5) / side for side in expected_size)
        y = view.top.view(-1, 1) + view.height.view(-1, 1) * rows
        x = view.left.view(-1, 1) + view.width.view(-1, 1) * cols
        inner = (slice(None), slice(2, -2), slice(2, -2))
        torch.testing.assert_close(
            view.images[:, 0][inner] * 512, y.unsqueeze(2).expand_as(view.images[:, 0])[inner], atol=0.02, rtol=0
        )
        torch.testing.assert_close(
            view.images[:, 1][inner] * 512, x.unsqueeze(1).expand_as(view.images[:, 1])[inner], atol=0.02, rtol=0
        )
    grid = (7, 7)
    match = match_by_place(first, second, grid)
    places = [
        torch.stack(
            [
                (view.top.view(-1, 1) + view.height.view(-1, 1) * (torch.arange(7) + 0.5) / 7)
                .unsqueeze(2)
                .expand(-1, 7, 7),
                (view.left.view(-1, 1) + view.width.view(-1, 1) * (torch.arange(7) + 0.5) / 7)
                .unsqueeze(1)
                .expand(-1, 7, 7),
            ]
        ).flatten(2)
        for view in (first, second)
    ]
    found = 0
    for i in range(40):
        for s in range(49):
            offset = (places[1][:, i] - places[0][:, i, s].view(2, 1)).abs()
            half = torch.stack([second.height[i], second.width[i].abs()]).view(2, 1) / 14
            within = (offset <= half + 1e-3).all(dim=0).nonzero().flatten().tolist()
            if int(match[i, s]) < 0:
                # Outside of the other view, or on its border.
                assert len(within) == 0 or (offset > half - 1e-3).any()
            else:
                assert int(match[i, s]) in within
                found += 1
    assert found > 0.5 * 40 * 49 * (1 if preset == "mild" else 0.5)


def test_a_view_of_an_unmoved_image_matches_itself():
    view = GlobalViews(crop=1.0)(rand_images(2, 3, 32, 32))
    assert torch.equal(match_by_place(view, view, (4, 4)), torch.arange(16).expand(2, -1))


def test_shifted_views_mirror_the_border():
    images = coordinate_images(50, 64, 64)
    view = GlobalViews(crop=1.0, shift=RandomShift(4, 64))._cropped(images, (64, 64), torch.Generator().manual_seed(0))
    assert view.top.min() == -4
    assert view.top.max() == 4
    i = int((view.top == -4).nonzero()[0])
    assert round(float(view.images[i, 0, 4, 0]) * 512, 1) == 0.5
    assert round(float(view.images[i, 0, 3, 0]) * 512, 1) == 1.5


def test_mild_views_change_little_and_simsiam_views_much():
    images = rand_images(64, 3, 32, 32)
    mild = GlobalViews(crop=1.0)(images, torch.Generator().manual_seed(0)).images
    assert 0 < float((mild - images).abs().mean()) < 0.06
    strong = GlobalViews("simsiam", crop=1.0)(images, torch.Generator().manual_seed(0)).images
    gray = ((strong[:, 0] - strong[:, 1]).abs().flatten(1).amax(dim=1) < 1e-5).float().mean()
    assert 0.05 < float(gray) < 0.4
    assert float(strong.min()) >= 0
    assert float(strong.max()) <= 1


# Mean maps.


@pytest.mark.parametrize("normalize", ["none", "train", "variance"])
@pytest.mark.parametrize("mean", ["position", "channel"])
@pytest.mark.parametrize("sizes", [(12,), (5, 4, 3), (1,) * 12])
def test_deviation_of_one_pass_equals_two_passes(mean, normalize, sizes):
    spreads = torch.linspace(0, 3, 4).view(4, 1, 1)  # One of the channels never changes.
    maps = [10 + spreads * rand(12, 4, 6, 5), 100 + 0.01 * rand(12, 3, 3, 2, seed=1)]
    deviation = MapDeviation([(4, 6, 5), (3, 3, 2)], mean, normalize)
    deviation.start()
    for batches in zip(*(values.split(list(sizes)) for values in maps), strict=True):
        deviation.update(batches)
    deviation.finish()
    for number, (values, errors) in enumerate(zip(maps, deviation(maps), strict=True)):
        exact = values.double()
        axes = (0,) if mean == "position" else (0, 2, 3)
        squares = (exact - exact.mean(dim=axes, keepdim=True)).square()
        torch.testing.assert_close(deviation.mean_errors[number].double(), squares.mean(), rtol=2e-3, atol=0)
        if normalize == "variance":
            variance = squares.mean(dim=axes, keepdim=True)
            known = (variance + variance.mean(dim=(2, 3), keepdim=True)) / 2
            squares = squares / (known + 0.01 * squares.mean())
        expected = squares.mean(dim=1, keepdim=True)
        if normalize != "none":
            expected = expected / expected.mean()
            assert float(errors.mean()) == pytest.approx(1, rel=1e-2)
        torch.testing.assert_close(errors.double(), expected, rtol=2e-2, atol=1e-3)


def test_what_varies_anyway_counts_for_less():
    scale = torch.tensor([0.1, 1.0]).view(2, 1, 1)
    deviation = MapDeviation([(2, 4, 4)], normalize="variance")
    deviation.start()
    deviation.update([scale * rand(50, 2, 4, 4)])
    deviation.finish()
    changed = torch.stack([deviation.mean_0, deviation.mean_0])
    changed[0, 0] += 0.5
    changed[1, 1] += 0.5
    steady, lively = deviation([changed])[0].mean(dim=(1, 2, 3))
    assert steady > 20 * lively


def test_a_single_image_is_its_own_mean():
    maps = [rand(1, 4, 6, 5)]
    deviation = MapDeviation([(4, 6, 5)])
    deviation.start()
    deviation.update(maps)
    deviation.finish()
    assert torch.equal(deviation(maps)[0], torch.zeros(1, 1, 6, 5))


def test_deviation_refuses_what_it_cannot_do():
    deviation = MapDeviation([(4, 6, 5)])
    with pytest.raises(NotFittedError):
        deviation([rand(1, 4, 6, 5)])
    deviation.start()
    with pytest.raises(ValueError, match="at least 1 image"):
        deviation.finish()
    with pytest.raises(ValueError, match="image_size"):
        deviation.update([rand(1, 4, 3, 5)])
    deviation.update([torch.full((1, 4, 6, 5), math.nan)])
    with pytest.raises(ValueError, match="diverged"):
        deviation.finish()
    anywhere = MapDeviation([(4, 6, 5)], "channel")
    anywhere.start()
    anywhere.update([rand(3, 4, 6, 5)])
    anywhere.finish()
    assert anywhere([rand(2, 4, 9, 3)])[0].shape == (2, 1, 9, 3)


# Scores.


def fitted(**kwargs):
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**{**SMALL, **kwargs}).eval()
    model.fit(rand_images(10, 3, 64, 64, seed=7).split(4))
    return model


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "train"])
def test_score_equals_its_formula(norm):
    model = fitted(score_norm=norm, feature_norm="none", alphas=(0.7, 0.3), mc_samples=4, dropout_p=0.3, score_sigma=0)
    images = rand_images(2, 3, 64, 64)
    training, variances = model.measure(rand_images(10, 3, 64, 64, seed=7))
    maps = torch.zeros(2, 1, 64, 64)
    for alpha, normal, own in ((0.7, training, 0), (0.3, variances, 1)):
        for stage, values in enumerate(normal):
            mean = values.mean(dim=0)
            error = (model.measure(images)[own][stage] - mean).square().mean(dim=1, keepdim=True)
            if norm == "train":
                error = error / (values - mean).square().mean()
            maps += alpha / 3 * F.interpolate(error, size=(64, 64), mode="bilinear", align_corners=False)
    scored = model(images)
    torch.testing.assert_close(scored.anomaly_map, maps, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(scored.pred_score, maps.amax(dim=(1, 2, 3)), rtol=1e-3, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("mc_samples", [0, 4])
def test_features_are_normalised_before_they_are_compared(mc_samples):
    images = rand_images(2, 3, 64, 64)
    raw, unit, image = (
        fitted(feature_norm=norm, mc_samples=mc_samples).measure(images)[0] for norm in ("none", "unit", "image")
    )
    for features, scaled, standardised in zip(raw, unit, image, strict=True):
        torch.testing.assert_close(scaled, features / features.norm(dim=1, keepdim=True).clamp(min=1e-12))
        variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        torch.testing.assert_close(standardised, (features - mean) / (variance + 1e-4).sqrt(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("norm", ["none", "unit", "image"])
def test_variances_are_of_what_is_compared(norm):
    model = fitted(feature_norm=norm, mc_samples=6, dropout_p=0.3)
    images = rand_images(2, 3, 64, 64)
    measured = model.measure(images)[1]
    for stage, features in enumerate(model.encoder.passes(images, range(7))):
        scaled = torch.stack([model._scaled(one) for one in features[1:]])
        torch.testing.assert_close(measured[stage], scaled.var(dim=0, correction=0), rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_variance_is_for_distances_and_uncertainties_are_divided_by_their_mean():
    variance, train = (
        fitted(score_norm=norm, alphas=(1.0, 1.0), mc_samples=4, dropout_p=0.3) for norm in ("variance", "train")
    )
    images = rand_images(2, 3, 64, 64)
    (distance, uncertainty), (other, expected) = variance.error_maps(images), train.error_maps(images)
    torch.testing.assert_close(uncertainty, expected)
    assert not torch.allclose(distance, other, rtol=0.1)


@torch.no_grad()
def test_fixed_masks_give_the_same_score_twice_and_random_ones_do_not():
    images = rand_images(3, 3, 64, 64)
    fixed, literal = fitted(alphas=(1.0, 1.0)), fitted(alphas=(1.0, 1.0), mc_masks="random")
    assert torch.equal(fixed(images).anomaly_map, fixed(images).anomaly_map)
    assert not torch.equal(literal(images).anomaly_map, literal(images).anomaly_map)
    torch.testing.assert_close(fixed(images).anomaly_map[1:2], fixed(images[1:2]).anomaly_map, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_uncertainty_the_network_runs_once(monkeypatch):
    model = fitted(alphas=(1.0, 0.0))
    calls = []
    monkeypatch.setattr(model.encoder, "passes", lambda *args: calls.append(args))
    assert model(rand_images(1, 3, 64, 64)).pred_score > 0
    assert calls == []


@torch.no_grad()
def test_a_training_image_alone_has_no_distance():
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**SMALL, alphas=(1.0, 0.0), score_norm="none").eval()
    image = rand_images(1, 3, 64, 64)
    model.fit([image])
    assert float(model(image).anomaly_map.abs().max()) < 1e-10


@torch.no_grad()
def test_state_dict_keeps_statistics():
    model = fitted()
    other = DynamicLocalAugmentationModel(**SMALL).eval()
    with pytest.raises(NotFittedError, match="train the model or load a checkpoint"):
        other(rand_images(1, 3, 64, 64))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(rand_images(2, 3, 64, 64)).anomaly_map, model(rand_images(2, 3, 64, 64)).anomaly_map)


@torch.no_grad()
def test_a_changed_place_stands_out():
    model = fitted(map_sigma=2.0)
    image = rand_images(1, 3, 64, 64, seed=50)
    changed = image.clone()
    changed[..., 40:56, 8:24] = 0
    maps = model(changed).anomaly_map - model(image).anomaly_map
    assert maps[..., 40:56, 8:24].mean() > 5 * maps[..., :24, 40:].abs().mean()


# Choice of the weight of uncertainty.


def test_auroc_equals_scikit_learn():
    masks = torch.rand(5000, generator=torch.Generator().manual_seed(0)) < 0.2
    errors = rand(5000) * 5 + 3 * masks - 40
    assert float(pixel_auroc(errors, masks)) == pytest.approx(roc_auc_score(masks, errors), abs=1e-5)


@pytest.mark.parametrize("good", [0, 1])
def test_the_weight_follows_what_finds_the_augmentations(good):
    masks = torch.arange(4000) % 4 == 0
    noise, signal = rand(4000).abs(), 3 * masks + 0.5 * rand(4000, seed=1)
    parts = (signal, noise) if good == 0 else (noise, signal)
    assert best_alpha(*parts, masks) == (0.0 if good == 0 else ALPHAS[-1])


@torch.no_grad()
def test_augmented_errors_are_the_same_each_time_and_enough():
    model = fitted(mc_samples=2)
    images = [rand_images(3, 3, 64, 64), rand_images(2, 3, 64, 64, seed=1)]
    first, second = (augmented_errors(model, images, LocalAugmentation()) for _ in range(2))
    assert len(first[0]) == 35 * 64 * 64
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[2], second[2])
    assert 0.05 < first[2].float().mean() < 0.3
    with pytest.raises(ValueError, match="Held-out images"):
        augmented_errors(model, [], LocalAugmentation())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"score_layers": ("layer9",)}, "score_layers"),
        ({"score_layers": ()}, "score_layers"),
        ({"dense_layer": "stem"}, "dense_layer"),
        ({"backbone": "resnet19"}, "backbone"),
        ({"backbone": "convnext_atto", "score_layers": ("stages.0",), "dense_layer": "stages.0"}, "dropout_p"),
        ({"dropout_p": 1.0}, "dropout_p"),
        ({"dropout_kind": "layer"}, "dropout_kind"),
        ({"dropout_kind": "element"}, "mc_masks"),
        ({"mc_masks": "none"}, "mc_masks"),
        ({"mc_samples": 1}, "mc_samples"),
        ({"mc_samples": -1}, "mc_samples"),
        ({"mc_chunk": 0}, "mc_chunk"),
        ({"mu_mode": "pixel"}, "mu_mode"),
        ({"score_norm": "l2"}, "score_norm"),
        ({"feature_norm": "l2"}, "feature_norm"),
        ({"score_layers": ("layer1", "layer4"), "image_size": (32, 32)}, "feature_norm"),
        ({"alphas": (0.0, 0.0)}, "alphas"),
        ({"alphas": (1.0, -0.1)}, "alphas"),
        ({"alphas": (0.0, 1.0), "dropout_p": 0.0}, "alphas"),
        ({"map_sigma": -1.0}, "map_sigma"),
        ({"score_sigma": -1.0}, "score_sigma"),
        ({"proj_dim": 1}, "proj_dim"),
        ({"dense_grid": 0}, "dense_grid"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        DynamicLocalAugmentationModel(**{**SMALL, **arguments})
