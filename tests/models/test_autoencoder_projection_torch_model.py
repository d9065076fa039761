# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From a reconstruction to its errors, and to map and score."""

import numpy as np
import pytest
import torch

from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel, squared_error
from anomalib_ssl.scoring import NotFittedError
from anomalib_ssl.scoring.box_filter import box_filter

TINY = {"image_size": (64, 64), "widths": (3, 4, 5), "sdc_layers": 1, "sdc_width": 3}
KINDS = frozenset({"plain", "scaled", "gradient", "both"})


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
        compared = model.compare(images, reconstruction)
        assert torch.equal(model.train()(images), model.autoencoder(images))
    raw = box_filter((images - reconstruction).square().mean(dim=1, keepdim=True), 3, 2).double()
    expected = ((raw - raw.mean()) / raw.std(correction=0)).asinh()
    torch.testing.assert_close(scored.anomaly_map.double(), expected, rtol=1e-3, atol=1e-3)
    most = raw.amax(dim=(1, 2, 3))
    expected = ((most - most.mean()) / most.std(correction=0)).asinh()
    torch.testing.assert_close(scored.pred_score.double(), expected, rtol=1e-2, atol=1e-2)
    assert torch.equal(compared.anomaly_map, scored.anomaly_map)
    assert torch.equal(compared.pred_score, scored.pred_score)


def test_a_perfect_reconstruction_has_no_errors():
    model, images = build(), rand(2, 3, 64, 64)
    model.fit([images])
    errors = model.errors(images, images, KINDS)
    assert {name: tuple(values.shape) for name, values in errors.items()} == {
        "plain": (2, 1, 64, 64),
        "scaled": (2, 1, 64, 64),
        "gradient": (2, 1, 64, 64),
        "both": (2, 2, 64, 64),
    }
    assert all(values.abs().max() < 1e-6 for values in errors.values())


def test_errors_are_what_they_are_called():
    model, images, blurred = build(), rand(2, 3, 64, 64), 0.5 * rand(2, 3, 64, 64) + 0.25
    model.fit([images])
    errors = model.errors(images, blurred, KINDS)
    plain = model.error_map(images, blurred)
    gradient = gradient_distance_map(gradient_pyramid(images), gradient_pyramid(blurred))
    assert torch.equal(errors["plain"], plain)
    assert torch.equal(errors["scaled"], model.error_scale(plain, images, images))
    torch.testing.assert_close(errors["gradient"], box_filter(gradient, 3, 2))
    assert torch.equal(errors["both"], torch.cat([errors["scaled"], errors["gradient"]], dim=1))


def test_only_wanted_errors_are_computed():
    model, images = build(), rand(2, 3, 64, 64)
    assert set(model.errors(images, images, frozenset({"plain"}))) == {"plain"}
    assert set(model.errors(images, images, frozenset({"gradient"}))) == {"plain", "gradient"}
    with pytest.raises(NotFittedError, match="ContrastScale"):
        model.errors(images, images, frozenset({"both"}))


def test_one_wrong_pixel_spreads_as_far_as_the_windows_reach():
    images = torch.zeros(1, 3, 64, 64)
    changed = images.clone()
    changed[:, 1, 16, 16] = 0.6
    errors = build().error_map(images, changed)
    # Two passes of three pixels.
    assert (errors[0, 0] > 0).any(dim=0).sum() == 2 * (3 - 1) + 1
    assert float(errors.sum()) == pytest.approx(0.6**2 / 3, rel=1e-5)


def test_a_constant_error_stays_constant_up_to_the_border():
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(build().error_map(images, images + 0.2), torch.full((1, 1, 64, 64), 0.04))


@pytest.mark.parametrize(("side", "size"), [(32, 1), (64, 3), (128, 5)])
def test_window_follows_the_images(side, size):
    assert build(image_size=(side, side)).box_size == size


def test_scaled_errors_of_rich_and_poor_images_are_alike():
    texture = rand(8, 3, 64, 64) - 0.5
    contrast = torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)
    images, blurred = 0.5 + contrast * texture, 0.5 + 0.5 * contrast * texture
    model = build()
    model.error_scale.fit([(model.error_map(images, blurred), images, images)])
    errors = model.errors(images, blurred, KINDS)
    plain, scaled = (errors[name].mean(dim=(1, 2, 3)) for name in ("plain", "scaled"))
    assert plain.max() / plain.min() > 20
    assert scaled.max() / scaled.min() < 1.2
    defect = images.clone()
    defect[:, :, 8:14, 8:14] = 1
    assert (model.errors(defect, blurred, KINDS)["scaled"][:, 0, 10, 10] > scaled).all()


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


def test_defects_planted_in_held_out_images_choose():
    model, images = build(heat_map="auto"), 0.5 + 0.001 * rand(8, 3, 64, 64)
    # It restores the background, whatever is in front.
    model.autoencoder.forward = lambda images: torch.full_like(images, 0.5005)
    model.fit([images])
    assert model.scorer.chosen == build().scorer.chosen
    assert model.scorer.judged_maps == {}
    model.fit([images], [images.flip(-1)])
    judged = model.scorer.judged_maps
    assert set(judged) == {f"{prefix}{kind}" for kind in KINDS for prefix in ("", "pixels_")}
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
