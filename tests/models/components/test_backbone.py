# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Which feature map of a backbone is scored."""

import pytest
import torch

from anomalib_ssl.models.components import Backbone


@torch.no_grad()
def test_level_seven_of_efficientnet_b4():
    backbone = Backbone("efficientnet_b4", layer="level7").eval()
    assert backbone.num_scored_features == 272
    assert backbone.num_features == 1792
    images = torch.rand(1, 3, 64, 64)
    # The sixth of seven stages of blocks, at a 32nd of the resolution.
    assert backbone.scored(images).shape == (1, 272, 2, 2)
    assert backbone(images).shape == (1, 1792, 2, 2)


@torch.no_grad()
def test_level_seven_is_what_the_sixth_stage_gives_on_the_way_to_the_last():
    backbone = Backbone("mobilenetv2_100", layer="level7").eval()
    seen = {}
    backbone.network.blocks[5].register_forward_hook(lambda module, inputs, output: seen.update(output=output))
    images = torch.rand(2, 3, 64, 64)
    backbone(images)
    passed = seen.pop("output")
    assert torch.equal(backbone.scored(images), passed)
    assert backbone.num_scored_features == passed.shape[1] == 160


@torch.no_grad()
@pytest.mark.parametrize(("name", "channels"), [("test_efficientnet", 256), ("test_resnet", 96)])
def test_pool_is_the_last_map(name, channels):
    backbone = Backbone(name).eval()
    images = torch.rand(2, 3, 64, 64)
    assert backbone.num_scored_features == backbone.num_features == channels
    assert torch.equal(backbone.scored(images), backbone(images))


@torch.no_grad()
@pytest.mark.parametrize("layer", ["pool", "level7"])
def test_images_are_normalised_inside(layer):
    backbone = Backbone("mobilenetv3_small_050", layer=layer).eval()
    images = torch.rand(2, 3, 64, 64)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    expected = backbone.network.forward_features((images - mean) / std)
    torch.testing.assert_close(backbone(images), expected)
    if layer == "pool":
        torch.testing.assert_close(backbone.scored(images), expected)


def test_images_are_normalised_as_pretrained_weights_ask_for(no_download):
    for name, mean in (("test_resnet", 0.5), ("resnet18", 0.485)):
        backbone = Backbone(name, pre_trained=True).eval()
        assert backbone.pixel_mean.flatten()[0] == pytest.approx(mean)
        images = torch.full((1, 3, 64, 64), mean)
        assert backbone.normalized(images)[:, 0].abs().max() < 1e-6
    fresh = Backbone("test_resnet")
    assert fresh.pixel_mean.flatten()[0] == pytest.approx(0.485)
    # Also where the weights come from a checkpoint.
    fresh.load_state_dict(Backbone("test_resnet", pre_trained=True).state_dict())
    assert fresh.pixel_mean.flatten()[0] == pytest.approx(0.5)


@pytest.mark.parametrize("arguments", [{"name": None}, {"name": [1]}, {"pre_trained": "yes"}, {"pre_trained": None}])
def test_other_types_are_named(arguments):
    with pytest.raises(TypeError, match=r"(backbone|pre_trained) must be .*, got "):
        Backbone(**arguments)


def test_looking_at_the_network_changes_nothing():
    torch.manual_seed(0)
    expected = Backbone("mobilenetv2_100").network.state_dict()
    torch.manual_seed(0)
    backbone = Backbone("mobilenetv2_100", layer="level7")
    assert all(module.training for module in backbone.modules())
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("name", ["resnet18", "test_efficientnet"])
def test_level_seven_needs_as_many_stages(name):
    with pytest.raises(ValueError, match=f"layer='level7'.*{name}"):
        Backbone(name, layer="level7")


def test_unknown_layer_is_named():
    with pytest.raises(ValueError, match=r"layer.*'level8'"):
        Backbone("resnet18", layer="level8")
