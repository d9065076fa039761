# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of NSA: layers and shapes, map and score."""

import pytest
import torch

from anomalib_ssl.models.nsa.network import NSANetwork, TransposedBlock
from anomalib_ssl.models.nsa.torch_model import DEFAULTS, NSAModel
from anomalib_ssl.scoring import NotFittedError


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def build(**arguments) -> NSAModel:
    torch.manual_seed(0)
    return NSAModel(**{"backbone": "test_resnet", "image_size": (64, 64), **arguments}).eval()


def test_number_of_parameters_by_hand():
    def block(inputs, outputs):
        return 9 * inputs * outputs + 9 * outputs * outputs + inputs * outputs + 6 * outputs

    # timm's ResNet-18 without its classifier is torchvision's.
    encoder = 11_689_512 - 513 * 1000
    decoder = 512 * 256 + 256 * 128 + block(128, 64) + block(64, 32) + block(32, 16) + 49 * 16
    with torch.device("meta"):
        network = NSANetwork("resnet18")
    assert sum(parameter.numel() for parameter in network.parameters()) == encoder + decoder


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_logits_have_the_shape_of_images_and_use_everything(size):
    torch.manual_seed(0)
    network = NSANetwork("test_resnet")
    logits = network(rand(2, 3, *size))
    assert logits.shape == (2, 1, *size)
    assert logits.min() < 0 < logits.max()
    logits.square().sum().backward()
    unused = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert unused == []


def test_all_passes_through_the_narrowest_layer():
    network, images = NSANetwork("test_resnet").eval(), rand(1, 3, 64, 64)
    network.squeeze.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        assert torch.equal(network(images), network(1 - images))


def test_blocks_enlarge_both_branches():
    torch.manual_seed(0)
    block, features = TransposedBlock(6, 4).eval(), torch.randn(2, 6, 3, 5)
    result = block(features)
    assert result.shape == (2, 4, 6, 10)
    assert result.min() == 0
    torch.testing.assert_close(result, (block.residual(features) + block.shortcut(features)).clamp(min=0))
    # Of the shortcut, a single pixel in four sees anything.
    shortcut = block.shortcut(features)
    assert (shortcut[..., 1::2, :] == 0).all()
    assert (shortcut[..., 1::2] == 0).all()
    assert (shortcut[..., ::2, ::2] != 0).all()


@pytest.mark.parametrize("size", [(60, 64), (64, 48), (230, 230)])
def test_sides_that_cannot_be_halved_are_refused(size):
    message = rf"must have sides that are multiples of 32 pixels, got \({size[0]}, {size[1]}\)"
    with pytest.raises(ValueError, match="image_size " + message):
        build(image_size=size)
    with pytest.raises(ValueError, match="images " + message):
        build().network(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("backbone", "named"),
    [("resnet17", "backbone must be the name of a timm model"), ("efficientvit_m0", "a 32nd of the image .*1/64")],
)
def test_backbones_that_do_not_fit_are_refused(backbone, named):
    with pytest.raises(ValueError, match=named):
        build(backbone=backbone)


def test_training_gives_logits_and_evaluation_their_standardised_sigmoid():
    model, images = build(score="change_mean", heat_map="change"), rand(5, 3, 64, 64)
    model.fit([images])
    with torch.no_grad():
        scored, change = model(images), model.network(images).sigmoid()
        assert torch.equal(model.evidence(images, frozenset({"change"}))["change"], change)
        assert torch.equal(model.train()(images), model.network(images))
    mean = change.double().mean(dim=(1, 2, 3))
    expected = ((mean - mean.mean()) / mean.std(correction=0)).asinh()
    torch.testing.assert_close(scored.pred_score.double(), expected, rtol=1e-2, atol=1e-2)
    order = change.flatten().argsort()
    assert (scored.anomaly_map.flatten()[order].diff() >= 0).all()


def test_the_network_and_random_filters_both_count():
    model, images = build(), rand(5, 3, 64, 64)
    model.fit([images])
    maps = DEFAULTS[1].split("+")

    def scored(heat_map):
        model.scorer.chosen = (DEFAULTS[0], heat_map)
        with torch.no_grad():
            return model(images)

    whole = scored(DEFAULTS[1])
    mean = torch.stack([scored(one).anomaly_map for one in maps]).mean(dim=0)
    torch.testing.assert_close(whole.anomaly_map, mean, rtol=1e-3, atol=1e-3)
    for part in (model.network, model.scorer.filters):
        state = {name: value.clone() for name, value in part.state_dict().items()}
        part.load_state_dict({name: value.flip(0) if value.ndim else value for name, value in state.items()})
        assert not torch.allclose(scored(DEFAULTS[1]).pred_score, whole.pred_score, atol=0.1)
        part.load_state_dict(state)
        torch.testing.assert_close(scored(DEFAULTS[1]).pred_score, whole.pred_score)


def test_scores_do_not_depend_on_the_batch():
    model, images = build(score="change_mean", heat_map="change"), rand(6, 3, 64, 64)
    model.fit([images])
    with torch.no_grad():
        whole = model(images)
        parts = [model(part) for part in images.split([1, 3, 2])]
    scores = torch.cat([part.pred_score for part in parts])
    maps = torch.cat([part.anomaly_map for part in parts])
    # Standardised: rounding counts for as much as the few normal images differ.
    torch.testing.assert_close(scores, whole.pred_score, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(maps, whole.anomaly_map, rtol=1e-3, atol=1e-3)


def test_untrained_models_refuse_to_score():
    with pytest.raises(NotFittedError):
        build()(rand(2, 3, 64, 64))
