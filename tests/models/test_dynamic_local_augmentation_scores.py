# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Scores of DynamicLocalAugmentation: distances, variances under dropout, and what is made of them."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentationModel, torch_model
from anomalib_ssl.scoring import NotFittedError

SMALL = {"backbone": "test_resnet", "image_size": (64, 64), "score": "distance_max", "heat_map": "distance"}


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(**kwargs):
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**{**SMALL, **kwargs}).eval()
    model.fit(rand_images(10, 3, 64, 64, seed=7).split(4))
    return model


@pytest.mark.parametrize("at_once", [2, 4, 20])
@torch.no_grad()
def test_variance_is_that_over_the_passes(at_once, monkeypatch):
    monkeypatch.setattr(torch_model, "PASSES_AT_ONCE", at_once)
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**SMALL, mc_samples=5, standardize=False)
    model.eval()
    images = rand_images(3, 3, 64, 64)
    clean, variances = model.measure(images)
    for features, variance, maps in zip(clean, variances, model.encoder.passes(images, range(6)), strict=True):
        torch.testing.assert_close(features, maps[0])
        torch.testing.assert_close(variance, maps[1:].double().var(dim=0, correction=0).float(), atol=1e-6, rtol=1e-3)
        assert variance.max() > 0


@torch.no_grad()
def test_score_equals_its_formula():
    model = fitted(standardize=False, mc_samples=4)
    images, training = rand_images(2, 3, 64, 64), rand_images(10, 3, 64, 64, seed=7)

    def distances(images):
        maps = torch.zeros(len(images), 1, 64, 64)
        for alpha, normal, own in zip((1.0, 0.1), model.measure(training), model.measure(images), strict=True):
            for values, features in zip(normal, own, strict=True):
                mean = values.mean(dim=0)
                error = (features - mean).square().mean(dim=1, keepdim=True)
                maps += alpha / 3 * F.interpolate(error, size=(64, 64), mode="bilinear", align_corners=False)
        return maps

    torch.testing.assert_close(
        model.evidence(images, frozenset({"distance"}))["distance"], distances(images), rtol=1e-3, atol=1e-6
    )
    smooth, normal = (
        np.stack([gaussian_filter(one.squeeze().double().numpy(), 1.0, mode="mirror") for one in distances(batch)])
        for batch in (images, training)
    )
    scored = model(images)
    expected = np.arcsinh((smooth - normal.mean()) / normal.std())
    np.testing.assert_allclose(scored.anomaly_map.squeeze(1), expected, rtol=1e-2, atol=1e-2)
    # Numbers are of maps before they are smoothed.
    largest, normal_largest = (distances(batch).amax(dim=(1, 2, 3)).double().numpy() for batch in (images, training))
    expected = np.arcsinh((largest - normal_largest.mean()) / normal_largest.std())
    np.testing.assert_allclose(scored.pred_score, expected, rtol=1e-2, atol=1e-2)


@torch.no_grad()
@pytest.mark.parametrize("mc_samples", [0, 4])
def test_features_are_normalised_before_they_are_compared(mc_samples):
    images = rand_images(2, 3, 64, 64)
    raw, image = (fitted(standardize=flag, mc_samples=mc_samples).measure(images)[0] for flag in (False, True))
    for features, standardised in zip(raw, image, strict=True):
        variance, mean = torch.var_mean(features, dim=(2, 3), correction=0, keepdim=True)
        torch.testing.assert_close(standardised, (features - mean) / (variance + 1e-4).sqrt(), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("standardize", [False, True])
def test_variances_are_of_what_is_compared(standardize):
    model = fitted(standardize=standardize, mc_samples=6)
    images = rand_images(2, 3, 64, 64)
    measured = model.measure(images)[1]
    for stage, features in enumerate(model.encoder.passes(images, range(7))):
        scaled = torch.stack([model._scaled(one) for one in features[1:]])
        torch.testing.assert_close(measured[stage], scaled.var(dim=0, correction=0), rtol=1e-3, atol=1e-6)


@torch.no_grad()
def test_uncertainties_are_divided_by_their_mean_alone():
    model = fitted(mc_samples=4)
    training = rand_images(10, 3, 64, 64, seed=7)
    for number, variances in enumerate(model.measure(training)[1]):
        squares = (variances - variances.mean(dim=0)).square()
        expected = squares.mean(dim=1, keepdim=True) / squares.mean()
        error = model.uncertainty(model.measure(training)[1])[number]
        torch.testing.assert_close(error, expected, rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_fixed_masks_give_the_same_score_twice_and_random_ones_do_not():
    images = rand_images(3, 3, 64, 64)
    fixed, literal = fitted(), fitted(mc_masks="random")
    assert torch.equal(fixed(images).anomaly_map, fixed(images).anomaly_map)
    assert not torch.equal(literal(images).anomaly_map, literal(images).anomaly_map)
    torch.testing.assert_close(fixed(images).anomaly_map[1:2], fixed(images[1:2]).anomaly_map, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_without_uncertainty_the_network_runs_once(monkeypatch):
    model = fitted(mc_samples=0)
    calls = []
    monkeypatch.setattr(model.encoder, "passes", lambda *args: calls.append(args))
    assert model(rand_images(1, 3, 64, 64)).pred_score.isfinite().all()
    assert calls == []


@torch.no_grad()
def test_other_scores_need_no_dropout_even_if_there_is_uncertainty(monkeypatch):
    model = fitted(score="density", heat_map="places")
    calls = []
    monkeypatch.setattr(model.encoder, "passes", lambda *args: calls.append(args))
    assert model(rand_images(1, 3, 64, 64)).anomaly_map.isfinite().all()
    assert calls == []


@torch.no_grad()
def test_training_images_that_are_all_alike_have_no_distance():
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel(**SMALL, mc_samples=0, standardize=False).eval()
    image = rand_images(1, 3, 64, 64)
    model.fit([image.repeat(2, 1, 1, 1)])
    assert float(model.error_maps(image)[0].abs().max()) < 1e-10


@torch.no_grad()
def test_state_dict_keeps_statistics():
    model = fitted()
    other = DynamicLocalAugmentationModel(**SMALL).eval()
    with pytest.raises(NotFittedError, match="has not been fitted"):
        other(rand_images(1, 3, 64, 64))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(rand_images(2, 3, 64, 64)).anomaly_map, model(rand_images(2, 3, 64, 64)).anomaly_map)


@torch.no_grad()
def test_a_changed_place_stands_out():
    model = fitted()
    image = rand_images(1, 3, 64, 64, seed=50)
    changed = image.clone()
    changed[..., 40:56, 8:24] = 0
    maps = model(changed).anomaly_map - model(image).anomaly_map
    assert maps[..., 40:56, 8:24].mean() > 5 * maps[..., :24, 40:].abs().mean()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"backbone": "resnet19"}, "backbone"),
        ({"mc_masks": "none"}, "mc_masks"),
        ({"mc_samples": 1}, "mc_samples"),
        ({"mc_samples": -1}, "mc_samples"),
        ({"image_size": (16, 16)}, "image_size must be larger"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        DynamicLocalAugmentationModel(**{**SMALL, **arguments})
