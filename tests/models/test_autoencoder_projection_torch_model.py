# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From a reconstruction to its errors, and to map and score."""

import numpy as np
import pytest
import torch

from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel
from anomalib_ssl.scoring import ERRORS, NotFittedError, smooth, squared_error
from anomalib_ssl.scoring.box_filter import box_filter

TINY = {"image_size": (64, 64), "widths": (3, 4, 5), "sdc_layers": 1, "sdc_width": 3}


def build(**arguments) -> AutoencoderProjectionModel:
    torch.manual_seed(0)
    return AutoencoderProjectionModel(**{**TINY, **arguments}).eval()


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_training_gives_reconstructions_and_evaluation_scores():
    model, images = build(score="plain_max", heat_map="plain"), rand(4, 3, 64, 64)
    model.fit([images])
    with torch.no_grad():
        scored, reconstruction = model(images), model.autoencoder(images)
        restored, compared = model.reconstruct_and_score(images)
        assert torch.equal(model.train()(images), model.autoencoder(images))
    raw = box_filter((images - reconstruction).square().mean(dim=1, keepdim=True), 3).double()
    # A 32nd of the side.
    shown = smooth(raw, 2.0)
    expected = ((shown - shown.mean()) / shown.std(correction=0)).asinh()
    torch.testing.assert_close(scored.anomaly_map.double(), expected, rtol=1e-3, atol=1e-3)
    most = raw.amax(dim=(1, 2, 3))
    expected = ((most - most.mean()) / most.std(correction=0)).asinh()
    torch.testing.assert_close(scored.pred_score.double(), expected, rtol=1e-2, atol=1e-2)
    assert torch.equal(restored, reconstruction)
    assert torch.equal(compared.anomaly_map, scored.anomaly_map)
    assert torch.equal(compared.pred_score, scored.pred_score)


def test_defects_planted_in_held_out_images_choose():
    model, images = build(heat_map="auto"), 0.5 + 0.001 * rand(8, 3, 64, 64)
    # It restores the background, whatever is in front.
    model.autoencoder.decode = lambda features: torch.full((len(features), 3, 64, 64), 0.5005)
    model.fit([images])
    assert model.scorer.chosen == build().scorer.chosen
    assert model.scorer.judged_maps == {}
    model.fit([images], [images.flip(-1)])
    judged = model.scorer.judged_maps
    errors = {f"{prefix}{kind}" for kind in ERRORS for prefix in ("", "pixels_")}
    assert set(judged) == errors | {"places", "normed_places", "filters", "fine_filters", "all+filters+fine_filters"}
    assert judged[model.scorer.chosen[1]] == max(judged.values()) > 0.9


def test_a_fit_that_breaks_off_at_the_first_image_leaves_nothing_to_score_with():
    model, images = build(score="plain_max", heat_map="plain"), rand(3, 3, 64, 64)
    model.fit([images])
    with pytest.raises(ValueError, match="got none"):
        model.fit([])
    with pytest.raises(NotFittedError):
        model(images)


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"image_size=\(64, 64\), got \(40, 64\)"):
        build().fit([rand(3, 3, 40, 64)])


def test_squared_error_is_the_mean_over_channels():
    images, other = rand(2, 2, 3, 4, 5)
    np.testing.assert_allclose(
        squared_error(images, other)[:, 0], ((images - other).numpy() ** 2).sum(axis=1) / 3, rtol=1e-5
    )


@pytest.mark.parametrize("name", ["score", "heat_map"])
def test_bad_arguments_are_named(name):
    with pytest.raises(ValueError, match=f"{name} must be one of .*'auto', .* got 'sum'"):
        build(**{name: "sum"})


@pytest.mark.parametrize("heat_map", ["plain", "scaled", "pixels_both"])
def test_fitting_streams_and_survives_a_state_dict(heat_map):
    images = rand(9, 3, 64, 64)
    arguments = {"score": f"{heat_map}_top", "heat_map": heat_map}
    model, other = build(**arguments), build(**arguments)
    with pytest.raises(NotFittedError, match="train the model, or load a checkpoint"):
        model(images)
    model.fit([images])
    with torch.no_grad():
        whole = model(images)
        model.fit(images.split(2))
        parts = model(images)
        torch.testing.assert_close(parts.anomaly_map, whole.anomaly_map, rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(parts.pred_score, whole.pred_score, rtol=1e-2, atol=1e-2)
        other.load_state_dict(model.state_dict())
        assert torch.equal(other(images).anomaly_map, parts.anomaly_map)
        assert torch.equal(other(images).pred_score, parts.pred_score)
    other.load_state_dict(build(**arguments).state_dict())
    with pytest.raises(NotFittedError):
        other(images)
