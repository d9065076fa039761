# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The torch model of CutPaste."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl import CutPaste
from anomalib_ssl.models.components import Backbone
from anomalib_ssl.models.cutpaste import CutPasteModel
from anomalib_ssl.models.cutpaste.network import build_head
from anomalib_ssl.scoring import GaussianDensity, NotFittedError, smooth


def rand_images(num=6, side=64, seed=0):
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def fitted() -> CutPasteModel:
    torch.manual_seed(0)
    model = CutPasteModel(image_size=(64, 64), score="density", heat_map="gradcam")
    model.scorer.maps["gradcam"].sigma = 0.0
    model.eval().fit([rand_images(8, seed=1)])
    return model


def test_training_gives_logits_and_evaluation_scores_with_maps(fitted):
    model = CutPasteModel(num_classes=2)
    assert model(rand_images()).shape == (6, 2)
    with torch.inference_mode():
        batch = fitted(rand_images())
    assert batch.pred_score.shape == (6,)
    assert batch.anomaly_map.shape == (6, 1, 64, 64)


def test_score_is_the_density_of_pooled_features_on_a_scale_that_keeps_its_order(fitted):
    images = rand_images(20, seed=2) * torch.linspace(0.2, 1, 20).view(-1, 1, 1, 1)
    density = GaussianDensity(fitted.backbone.num_scored_features)
    with torch.no_grad():
        density.fit([fitted.pooled_features(rand_images(8, seed=1))])
        expected, training = (
            density(fitted.pooled_features(batch)).double() for batch in (images, rand_images(8, seed=1))
        )
        found = fitted(images).pred_score
    assert found.argsort().tolist() == expected.argsort().tolist()
    distances, normal = (2 * expected).sqrt(), (2 * training).sqrt()
    standardised = (distances - normal.mean()) / normal.std(correction=0)
    torch.testing.assert_close(found, standardised.asinh().float(), rtol=1e-2, atol=1e-2)


def raw_map(model, images):
    """The map as it is before it is brought to the common scale."""
    with torch.no_grad():
        return model.scorer.map("gradcam", model.evidence(images, frozenset({"last"})))


def test_map_equals_gradcam_by_autograd(fitted):
    images = rand_images(3)
    activations = fitted.backbone.scored(images).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(fitted.scorer.density(activations.mean(dim=(2, 3))).sum(), activations)
    maps = (gradient.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True).relu()
    expected = F.interpolate(maps, size=(64, 64), mode="bilinear").detach()
    torch.testing.assert_close(raw_map(fitted, images), expected, rtol=1e-3, atol=1e-4 * expected.max())
    # The scale moves no pixel above another.
    order = expected[0].flatten().argsort()
    assert (fitted(images).anomaly_map[0].flatten()[order].diff() > -1e-3).all()


def test_map_is_smoothed(fitted, monkeypatch):
    sharp = raw_map(fitted, rand_images(3))
    monkeypatch.setattr(fitted.scorer.maps["gradcam"], "sigma", 4.0)
    smoothed = raw_map(fitted, rand_images(3))
    torch.testing.assert_close(smoothed, smooth(sharp, 4.0))
    assert smoothed.diff(dim=-1).abs().max() < sharp.diff(dim=-1).abs().max()


def test_head_takes_no_part_in_scoring(fitted):
    images = rand_images()
    with torch.no_grad():
        before = fitted(images).pred_score
        for parameter in fitted.head.parameters():
            parameter.mul_(-3)
        after = fitted(images).pred_score
    assert torch.equal(before, after)


def test_scores_do_not_depend_on_the_batch(fitted):
    images = rand_images()
    with torch.no_grad():
        together = fitted(images).pred_score
        alone = torch.cat([fitted(image[None]).pred_score for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=0)


def test_scoring_before_fitting_is_an_error():
    with pytest.raises(NotFittedError):
        CutPasteModel().eval()(rand_images())


def test_state_dict_carries_the_density(fitted):
    loaded = CutPasteModel(image_size=(64, 64), score="density", heat_map="gradcam").eval()
    loaded.load_state_dict(fitted.state_dict())
    with torch.no_grad():
        assert torch.equal(loaded(rand_images()).pred_score, fitted(rand_images()).pred_score)


def test_resnet18_has_its_published_size_and_torchvision_start():
    torch.manual_seed(0)
    backbone = Backbone("resnet18")
    # torchvision's ResNet-18 has 11,689,512 parameters with its classifier of 513,000.
    assert sum(p.numel() for p in backbone.parameters()) == 11_689_512 - 513_000
    assert (backbone.network.layer4[1].bn2.weight == 1).all()


@pytest.mark.parametrize(("name", "channels"), [("efficientnet_b0", 1280), ("mobilenetv2_100", 1280)])
def test_other_timm_backbones(name, channels):
    backbone = Backbone(name)
    assert backbone.num_features == channels
    assert backbone(torch.zeros(1, 3, 64, 64)).shape[:2] == (1, channels)


@pytest.mark.parametrize("name", ["resnet181", "nonsense"])
def test_unknown_backbone_is_named(name):
    with pytest.raises(ValueError, match=f"backbone.*{name}"):
        Backbone(name)


def test_backbone_without_feature_map_is_refused():
    with pytest.raises(ValueError, match="spatial feature map; 'vit_tiny_patch16_224'"):
        Backbone("vit_tiny_patch16_224")


@pytest.mark.parametrize("arguments", [{"layer": "level8"}, {"score": "x"}])
def test_bad_arguments_are_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=name):
        CutPasteModel(**arguments)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_efficientnet"])
def test_places_find_a_changed_place(backbone):
    """Also without training: white noise in a corner of a smooth image."""
    torch.manual_seed(0)
    model = CutPasteModel(backbone, image_size=(64, 96), heat_map="places").eval()
    images = torch.rand(12, 3, 1, 1) * 0.1 + torch.rand(12, 3, 64, 96) * 0.05
    model.fit([images])
    changed = images[:2].clone()
    changed[1, :, 40:64, 72:96] = torch.rand(3, 24, 24)
    with torch.no_grad():
        maps = model(changed).anomaly_map
    assert maps.shape == (2, 1, 64, 96)
    row, column = divmod(int(maps[1].argmax()), 96)
    assert row >= 36
    assert column >= 64
    assert maps[1].max() > maps[0].max() + 1


@pytest.mark.usefixtures("no_download")
def test_more_directions_are_kept_of_pretrained_networks():
    networks = [CutPasteModel("test_resnet", pre_trained=kind, image_size=(64, 64)) for kind in (False, True)]
    kept = [len(network.scorer.maps["places_and_filters"].density.projection) for network in networks]
    assert kept == [115, 160]


def test_backbones_without_stages_are_localised_by_gradcam(monkeypatch):
    monkeypatch.setattr("anomalib_ssl.models.components.backbone.STAGE_REDUCTIONS", ())
    with pytest.raises(ValueError, match=r"score must be .*'density'.*'gradcam_max'.*got 'places_and_filters_max'"):
        CutPaste(backbone="test_resnet", image_size=64)
    model = CutPaste(backbone="test_resnet", image_size=64, score="density", heat_map="gradcam").eval()
    model.fit_statistics([rand_images()])
    assert model.model(rand_images()).anomaly_map.shape == (6, 1, 64, 64)


@pytest.mark.parametrize(("score", "expected"), [("normed_places_max", 0), ("density", 1)])
def test_the_network_is_run_no_further_than_scores_need(score, expected):
    model = CutPasteModel(image_size=(64, 64), score=score, heat_map="normed_places").eval()
    model.fit([rand_images(8, seed=1)])
    calls = []
    model.backbone.network.layer4.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        scored = model(rand_images())
    assert len(calls) == expected
    assert scored.pred_score.isfinite().all()


def test_head_layers():
    head = build_head(96, 3)
    assert [type(layer).__name__ for layer in head] == ["Linear", "BatchNorm1d", "ReLU", "Linear", "Linear"]
    assert [tuple(parameter.shape) for parameter in head.parameters() if parameter.ndim == 2] == [
        (512, 96),
        (128, 512),
        (3, 128),
    ]
    assert head[0].bias is None
    assert head(torch.rand(4, 96)).shape == (4, 3)
