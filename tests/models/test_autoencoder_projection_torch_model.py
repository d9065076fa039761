# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From a reconstruction to map and score: smoothing, contrast, statistics, aggregation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import uniform_filter
from scipy.optimize import nnls
from scipy.stats import linregress

from anomalib_ssl.models.autoencoder_projection.error_scale import ContrastScale, image_contrast, local_variance
from anomalib_ssl.models.autoencoder_projection.pixel_statistics import PixelStatistics
from anomalib_ssl.models.autoencoder_projection.torch_model import (
    AutoencoderProjectionModel,
    default_box_size,
    image_score,
    squared_error,
)
from anomalib_ssl.scoring import NotFittedError
from anomalib_ssl.scoring.box_filter import box_filter

TINY = {"image_size": (64, 64), "widths": (3, 4, 5), "sdc_layers": 1, "sdc_width": 3}


def build(**arguments) -> AutoencoderProjectionModel:
    torch.manual_seed(0)
    return AutoencoderProjectionModel(**TINY, **arguments).eval()


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_training_gives_reconstructions_and_evaluation_scores():
    model = build()
    images = rand(2, 3, 64, 64)
    with torch.no_grad():
        predictions = model(images)
        reconstruction = model.autoencoder(images)
        assert model.train()(images).shape == images.shape
    expected = box_filter((images - reconstruction).square().mean(dim=1, keepdim=True), 3, 2)
    torch.testing.assert_close(predictions.anomaly_map, expected)
    torch.testing.assert_close(predictions.pred_score, expected.flatten(1).max(dim=1).values)


def test_map_of_a_perfect_reconstruction_is_zero():
    images = rand(2, 3, 64, 64)
    predictions = build().compare(images, images)
    assert predictions.anomaly_map.shape == (2, 1, 64, 64)
    assert not predictions.anomaly_map.any()
    assert not predictions.pred_score.any()


def test_one_wrong_pixel_spreads_as_far_as_the_windows_reach():
    images = torch.zeros(1, 3, 64, 64)
    changed = images.clone()
    changed[:, 1, 16, 16] = 0.6
    anomaly_map = build().compare(images, changed).anomaly_map
    # Two passes of three pixels.
    assert (anomaly_map[0, 0] > 0).any(dim=0).sum() == 2 * (3 - 1) + 1
    assert float(anomaly_map.sum()) == pytest.approx(0.6**2 / 3, rel=1e-5)


def test_a_constant_error_stays_constant_up_to_the_border():
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(build().compare(images, images + 0.2).anomaly_map, torch.full((1, 1, 64, 64), 0.04))


@pytest.mark.parametrize(("side", "size"), [(8, 1), (64, 3), (128, 5), (256, 11), (512, 21)])
def test_default_window(side, size):
    assert default_box_size((side, 2 * side)) == size
    assert AutoencoderProjectionModel(**{**TINY, "image_size": (side, side)}).box_size == size


def test_image_scores_against_numpy():
    maps = rand(3, 1, 7, 9)
    flat = np.sort(maps.flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(image_score(maps, "max"), flat[:, -1])
    np.testing.assert_allclose(image_score(maps, "mean"), flat.mean(axis=1), rtol=1e-6)
    # A hundredth of 63 pixels, rounded up, is one; of 210 it is three.
    np.testing.assert_allclose(image_score(maps, "topk_mean"), flat[:, -1])
    maps = rand(3, 1, 14, 15)
    flat = np.sort(maps.flatten(1).numpy(), axis=1)
    np.testing.assert_allclose(image_score(maps, "topk_mean"), flat[:, -3:].mean(axis=1), rtol=1e-6)


def test_local_variance_against_scipy():
    images = rand(2, 3, 24, 20).double() * 0.1 + 0.8

    def mean(values):
        def sums(array):
            return uniform_filter(array, size=(1, 1, 5, 5), mode="constant")

        return sums(values) / sums(np.ones_like(values))

    pixels = images.numpy()
    expected = (mean(pixels**2) - mean(pixels) ** 2).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(local_variance(images, 5, 1), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["line", "falling", "negative"])
def test_contrast_scale_is_the_best_line_that_is_positive(kind):
    images = rand(6, 3, 16, 16) * torch.linspace(0.1, 1, 6).view(-1, 1, 1, 1)
    variance = local_variance(images, 3, 1)
    noise = 0.1 * variance.mean() * rand(6, 1, 16, 16, seed=1)
    normal = {"line": 0.01 + 0.3 * variance, "falling": 1 - 2 * variance, "negative": 2 * variance.square()}
    errors = normal[kind] + noise
    scale = ContrastScale(3, 1)
    # All of the same contrast as a whole.
    alike = rand(1, 3, 16, 16).expand(6, -1, -1, -1)
    scale.fit(zip(errors.split(4), images.split(4), alike.split(4), strict=True))
    v, e = variance.flatten().double().numpy(), errors.flatten().double().numpy()
    least = 0.1 * e.mean()
    # constant = least + surplus, with surplus and slope not negative.
    (surplus, slope), _ = nnls(np.stack([np.ones_like(v), v], axis=1), e - least)
    np.testing.assert_allclose((scale.constant, scale.slope), (least + surplus, slope), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(scale(errors, images, alike), errors / (scale.constant + scale.slope * variance))


@pytest.mark.parametrize(("power", "expected"), [(0.6, 0.6), (-0.5, 0), (1.7, 1)])
def test_contrast_scale_finds_the_level_of_images_of_any_contrast(power, expected):
    images = 0.5 + (rand(12, 3, 16, 16) - 0.5) * torch.linspace(0.1, 1, 12).view(-1, 1, 1, 1)
    contrast = image_contrast(images)
    local = 0.01 + 0.5 * local_variance(rand(12, 3, 16, 16, seed=1), 3, 1)
    local = local / local.mean(dim=(1, 2, 3), keepdim=True)
    errors = 0.02 * local * contrast.pow(power).view(-1, 1, 1, 1)
    scale = ContrastScale(3, 1)
    scale.fit([(errors, rand(12, 3, 16, 16, seed=1), images)])
    slope = linregress(contrast.double().log().numpy(), errors.double().mean(dim=(1, 2, 3)).log().numpy()).slope
    assert float(scale.exponent) == pytest.approx(expected, abs=1e-4) == pytest.approx(np.clip(slope, 0, 1), abs=1e-4)
    if power == 0.6:
        means = scale(errors, rand(12, 3, 16, 16, seed=1), images).mean(dim=(1, 2, 3))
        torch.testing.assert_close(means, torch.ones(12), rtol=0.05, atol=0)
        # An image richer in contrast than all that were seen counts as the richest one.
        richer = 0.5 + 1.5 * (images[-1:] - 0.5)
        surroundings = rand(12, 3, 16, 16, seed=1)[-1:]
        same = scale(errors[-1:], surroundings, images[-1:])
        torch.testing.assert_close(scale(errors[-1:], surroundings, richer), same)


def test_contrast_scale_of_a_single_image_has_no_level():
    scale = ContrastScale(3, 1)
    images = rand(1, 3, 16, 16)
    scale.fit([(rand(1, 1, 16, 16), images, images)])
    assert scale.exponent == 0
    assert scale(rand(1, 1, 16, 16), images, images).isfinite().all()
    flat = torch.zeros(2, 3, 16, 16)
    scale.fit([(torch.zeros(2, 1, 16, 16), flat, flat)])
    assert scale(rand(1, 1, 16, 16), images, images).isfinite().all()


def test_contrast_scale_makes_errors_of_rich_and_poor_images_alike():
    texture = rand(8, 3, 64, 64) - 0.5
    contrast = torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)
    images, blurred = 0.5 + contrast * texture, 0.5 + 0.5 * contrast * texture
    for source in ("input", "reconstruction"):
        model = build(error_normalization=source)
        raw = model.error_map(images, blurred)
        model.error_scale.fit([(raw, images if source == "input" else blurred, images)])
        scores = model.compare(images, blurred).anomaly_map.mean(dim=(1, 2, 3))
        means = raw.mean(dim=(1, 2, 3))
        assert means.max() / means.min() > 20
        assert scores.max() / scores.min() < 1.2
        # A defect that is repaired adds to the contrast of the input alone.
        defect = images.clone()
        defect[:, :, 8:14, 8:14] = 1
        found = model.compare(defect, blurred).anomaly_map[:, 0, 10, 10] / scores
        assert (found > 3).all() if source == "reconstruction" else (found > 1).all()


def test_pixel_statistics_against_numpy():
    maps = rand(11, 1, 16, 20)
    statistics = PixelStatistics("standardize", (16, 20), 3, 2)
    statistics.fit(maps.split(4))
    values = maps.double().numpy()
    mean = box_filter(torch.from_numpy(values.mean(axis=0, keepdims=True)), 3, 2)
    variance = box_filter(torch.from_numpy(values.var(axis=0, keepdims=True)), 3, 2)
    expected = (maps - mean) / variance.sqrt()
    np.testing.assert_allclose(statistics(maps), expected, rtol=1e-4, atol=1e-5)
    statistics.kind = "mean"
    np.testing.assert_allclose(statistics(maps), maps - mean, rtol=1e-4, atol=1e-6)


def test_pixels_without_spread_do_not_explode():
    maps = rand(5, 1, 16, 16)
    maps[..., :8] = 0.25
    statistics = PixelStatistics("standardize", (16, 16), 1, 1)
    statistics.fit([maps])
    rms = maps.var(dim=0, correction=0).mean().sqrt()
    torch.testing.assert_close(statistics.deviation[..., :8], (0.1 * rms).expand(1, 1, 16, 8))
    assert statistics(maps).isfinite().all()
    statistics.fit([torch.zeros(3, 1, 16, 16)])
    assert statistics(maps).isfinite().all()


@pytest.mark.parametrize("source", ["reconstruction", "input"])
@pytest.mark.parametrize("kind", ["none", "standardize"])
def test_fitting_a_model_streams_and_survives_a_state_dict(source, kind):
    images = rand(9, 3, 64, 64)
    model = build(error_normalization=source, map_statistics=kind, statistics_for="map")
    with pytest.raises(NotFittedError, match="train the model, or load a checkpoint"):
        model(images)
    model.fit([images])
    with torch.no_grad():
        whole = model(images)
        model.fit(images.split(2))
        torch.testing.assert_close(model(images).anomaly_map, whole.anomaly_map, rtol=1e-3, atol=1e-4)
        other = build(error_normalization=source, map_statistics=kind, statistics_for="map")
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(images).anomaly_map, model(images).anomaly_map)
    unfitted = build(error_normalization=source, map_statistics=kind)
    other.load_state_dict(unfitted.state_dict())
    with pytest.raises(NotFittedError):
        other(images)
    if kind == "standardize":
        # Smoothing the mean map makes this a statement about the mean over the image.
        assert abs(model(images).anomaly_map.mean().item()) < 0.05


def test_statistics_may_be_for_the_score_alone():
    images, other = rand(9, 3, 64, 64), rand(4, 3, 64, 64, seed=1)
    plain, scored, mapped = (
        build(map_statistics=kind, statistics_for=target)
        for kind, target in (("none", "score"), ("standardize", "score"), ("standardize", "map"))
    )
    for model in (scored, mapped):
        model.autoencoder.load_state_dict(plain.autoencoder.state_dict())
        model.fit([images])
    with torch.no_grad():
        without, score, maps = plain(other), scored(other), mapped(other)
    assert torch.equal(score.anomaly_map, without.anomaly_map)
    assert torch.equal(score.pred_score, maps.pred_score)
    assert torch.equal(maps.pred_score, maps.anomaly_map.amax(dim=(1, 2, 3)))
    assert not torch.allclose(maps.anomaly_map, without.anomaly_map)


def test_a_single_image_has_a_mean_map_but_no_deviation():
    statistics, maps = PixelStatistics("standardize", (16, 16), 1, 1), rand(1, 1, 16, 16)
    statistics.fit([maps])
    torch.testing.assert_close(statistics(maps), torch.zeros(1, 1, 16, 16))
    torch.testing.assert_close(statistics(maps + 0.5), torch.full((1, 1, 16, 16), 0.5))


def test_without_options_nothing_needs_fitting():
    model = build()
    model.fit([])
    assert model(rand(1, 3, 64, 64)).pred_score.isfinite().all()


def test_statistics_ask_for_images_and_their_size():
    model = build(map_statistics="mean")
    with pytest.raises(ValueError, match="got none"):
        model.fit([])
    with pytest.raises(ValueError, match=r"image_size=\(64, 64\), got \(40, 64\)"):
        model.fit([rand(3, 3, 40, 64)])
    with pytest.raises(ValueError, match="got none"):
        build(error_normalization="input").fit([])


def test_squared_error_is_the_mean_over_channels():
    images, other = rand(2, 2, 3, 4, 5)
    np.testing.assert_allclose(
        squared_error(images, other)[:, 0], ((images - other).numpy() ** 2).sum(axis=1) / 3, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"error_normalization": "variance"}, "error_normalization"),
        ({"map_statistics": "median"}, "map_statistics"),
        ({"statistics_for": "image"}, "statistics_for"),
        ({"score": "sum"}, "score"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        build(**arguments)
