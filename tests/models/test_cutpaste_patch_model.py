# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The patch model of CutPaste against loops over windows."""

import copy
import re

import pytest
import torch

from anomalib_ssl.models.components import dilated
from anomalib_ssl.models.cutpaste import CutPastePatchModel
from anomalib_ssl.scoring import GaussianDensity, LocatedGaussianDensity, NotFittedError, as_rows, gaussian_upsample

SIZE = (64, 48)
GRID = (5, 3)


def make_model(**kwargs) -> CutPastePatchModel:
    torch.manual_seed(0)
    own = {"score": "windows_max", "heat_map": "windows"}
    arguments = {"backbone": "test_efficientnet", "window_size": 32, "stride": 8, **own, **kwargs}
    return CutPastePatchModel(SIZE, **arguments).eval()


def rand_images(num=3, seed=0):
    # Smooth and of different contrasts, so that features differ between windows and images.
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 12, 9, generator=generator) * torch.rand(num, 1, 1, 1, generator=generator)
    return torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")


def fitted(**kwargs) -> CutPastePatchModel:
    model = make_model(**kwargs)
    model.fit(rand_images(12, seed=1).split(5))
    return model


def score_windows(model, images):
    """Scores (B, 1, h, w) of all windows."""
    return model.scorer.maps["windows"](model.window_features(images))


def every_window(images):
    """Windows one by one: place, and pixels."""
    for i in range(GRID[0]):
        for j in range(GRID[1]):
            yield i, j, images[:, :, 8 * i : 8 * i + 32, 8 * j : 8 * j + 32]


@pytest.fixture(scope="module", params=["shared", "per_location", "convolutional"])
def model(request) -> CutPastePatchModel:
    kwargs = {
        "shared": {},
        "per_location": {"per_location": True},
        "convolutional": {"dense": "convolutional"},
    }
    return fitted(**kwargs[request.param])


@torch.no_grad()
@pytest.mark.parametrize("layer", ["pool", "level7"])
def test_features_are_those_of_each_window_alone(layer):
    model = make_model(**({} if layer == "pool" else {"backbone": "mobilenetv3_small_050", "layer": layer}))
    images = rand_images()
    features = model.window_features(images)
    assert features.shape == (3, model.backbone.num_scored_features, *GRID)
    for i, j, windows in every_window(images):
        alone = torch.stack([model.backbone.scored(window[None])[0].mean(dim=(1, 2)) for window in windows])
        torch.testing.assert_close(features[:, :, i, j], alone, rtol=1e-4, atol=1e-5 * alone.abs().max().item())


@torch.no_grad()
def test_convolutional_features_are_means_of_the_finer_map_over_each_window():
    model = make_model(dense="convolutional")
    images = rand_images()
    with dilated(model.backbone, model.dilations):
        finer = model.backbone(images)
    assert finer.shape[-2:] == (8, 6)
    features = model.window_features(images)
    assert features.shape[-2:] == GRID
    for i in range(GRID[0]):
        for j in range(GRID[1]):
            expected = finer[:, :, i : i + 4, j : j + 4].mean(dim=(2, 3))
            torch.testing.assert_close(features[:, :, i, j], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_convolutional_scoring_follows_the_weights():
    model = fitted(dense="convolutional")
    images = rand_images()
    before = model.window_features(images)
    other = fitted(dense="convolutional")
    for parameter in other.backbone.parameters():
        parameter.mul_(1.1)
    model.load_state_dict(other.state_dict())
    after = model.window_features(images)
    assert not torch.allclose(before, after, rtol=1e-2)
    torch.testing.assert_close(after, other.window_features(images))
    torch.testing.assert_close(copy.deepcopy(other).window_features(images), after)


@torch.no_grad()
def test_convolutional_scoring_follows_the_statistics_of_converted_batch_norm():
    model = make_model(dense="convolutional", backbone="resnet18").double()
    images = rand_images().double()
    before = model.window_features(images)
    # As the Trainer does with sync_batchnorm: new modules in place of the old ones, then new buffers, on the device.
    converted = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(model)).float().double()
    for norms in zip(model.backbone.modules(), converted.backbone.modules(), strict=True):
        if isinstance(norms[0], torch.nn.BatchNorm2d):
            assert isinstance(norms[1], torch.nn.SyncBatchNorm)
            for norm in norms:
                norm.running_mean.add_(0.1)
                norm.running_var.mul_(0.5)
    after = converted.window_features(images)
    assert not torch.allclose(before, after, rtol=1e-2)
    torch.testing.assert_close(after, model.window_features(images))


@torch.no_grad()
def test_score_is_that_of_the_worst_window_and_map_its_upsampling(model):
    images = rand_images()
    scores, normal = score_windows(model, images), score_windows(model, rand_images(12, seed=1))
    assert scores.shape == (3, 1, *GRID)
    result = model(images)
    worst = scores.amax(dim=(1, 2, 3))
    torch.testing.assert_close(result.pred_score, on_scale(worst, normal.amax(dim=(1, 2, 3))), rtol=1e-3, atol=1e-3)
    maps, normal_maps = (gaussian_upsample(values, SIZE, 32, 8, sigma=10.0) for values in (scores, normal))
    torch.testing.assert_close(result.anomaly_map, on_scale(maps, normal_maps), rtol=1e-3, atol=1e-3)
    assert result.anomaly_map.shape == (3, 1, *SIZE)


def on_scale(values, normal):
    """Bring values to the scale on which normal ones have a mean of 0 and a standard deviation of 1."""
    return ((values - normal.mean()) / normal.std(correction=0)).asinh()


@torch.no_grad()
def test_held_out_images_give_the_scale():
    model, held_out = make_model(), rand_images(5, seed=2)
    model.fit([rand_images(12, seed=1)], [held_out[:3], held_out[3:]])
    worst = score_windows(model, held_out).amax(dim=(1, 2, 3))
    torch.testing.assert_close(model(held_out).pred_score, on_scale(worst, worst), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_shared_density_is_that_of_all_windows_at_once():
    model = fitted()
    features = model.window_features(rand_images(12, seed=1))
    expected = GaussianDensity(features.shape[1]).fit([as_rows(features)])
    density = model.scorer.maps["windows"].density
    assert density.num_fitted == 12 * GRID[0] * GRID[1]
    torch.testing.assert_close(density.mean, expected.mean)
    probe = model.window_features(rand_images())
    for i in range(GRID[0]):
        scores = expected(probe[:, :, i, 1])
        torch.testing.assert_close(score_windows(model, rand_images())[:, 0, i, 1], scores, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_located_densities_are_fitted_place_by_place():
    model = fitted(per_location=True)
    density = model.scorer.maps["windows"].density
    assert isinstance(density, LocatedGaussianDensity)
    features = model.window_features(rand_images(12, seed=1))
    expected = LocatedGaussianDensity(features.shape[1], GRID, dims=min(100, features.shape[1]))
    expected.fit([features])
    probe = rand_images()
    torch.testing.assert_close(
        score_windows(model, probe), expected(model.window_features(probe)), rtol=1e-3, atol=1e-3
    )
    # Each place knows its own normal features: those of another place are worse.
    moved = features.roll(1, dims=2)
    assert density(features).mean() < density(moved).mean()


@torch.no_grad()
def test_scores_do_not_depend_on_the_batch(model):
    images = rand_images(6)
    together = model(images)
    alone = [model(image[None]) for image in images]
    scale = together.pred_score.abs().max().item()
    torch.testing.assert_close(
        together.pred_score, torch.cat([one.pred_score for one in alone]), rtol=1e-3, atol=1e-4 * scale
    )
    torch.testing.assert_close(
        together.anomaly_map, torch.cat([one.anomaly_map for one in alone]), rtol=1e-3, atol=1e-4 * scale
    )


def test_training_gives_logits_of_crops_and_state_dict_carries_the_density(model):
    assert copy.deepcopy(model).train()(torch.rand(4, 3, 32, 32)).shape == (4, 3)
    loaded = copy.deepcopy(model)
    loaded.scorer.maps["windows"].density.forget()
    with pytest.raises(NotFittedError):
        loaded(rand_images())
    loaded.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(rand_images()).pred_score, model(rand_images()).pred_score)


@torch.no_grad()
def test_an_odd_patch_stands_out_where_it_is():
    model = fitted()
    images = rand_images(2, seed=1)
    images[1, :, 34:54, 20:40] = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0)).round()
    result = model(images)
    assert result.pred_score[1] > result.pred_score[0]
    row, col = divmod(int(result.anomaly_map[1, 0].argmax()), SIZE[1])
    assert row >= 26
    assert col >= 12


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"dense": "sparse"}, "dense"),
        ({"stride": 0}, "stride"),
        ({"stride": 33}, "stride"),
        ({"window_size": 49}, "window_size=49"),
        ({"dense": "convolutional", "stride": 6, "window_size": 36}, "power of two.*stride=6"),
        ({"dense": "convolutional", "stride": 8, "window_size": 36}, "window_size=36"),
        ({"dense": "convolutional", "backbone": "test_resnet"}, "dense='convolutional' needs a backbone"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=re.compile(named)):
        make_model(**arguments)
