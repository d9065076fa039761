# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Encoder of DynamicLocalAugmentation: which maps it gives, and dropout in its blocks."""

import copy

import pytest
import timm
import torch

from anomalib_ssl.models.components import Backbone
from anomalib_ssl.models.dynamic_local_augmentation.encoder import Encoder


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_scored_maps_are_those_of_the_backbone_and_later_stages_are_not_run():
    torch.manual_seed(0)
    encoder = Encoder("resnet10t").eval()
    images = rand_images(2, 3, 64, 64)
    network, normalized = encoder.backbone.network, encoder.backbone.normalized(images)
    with torch.no_grad():
        maps = encoder.maps(images)
        x = network.layer1(network.maxpool(network.act1(network.bn1(network.conv1(normalized)))))
        torch.testing.assert_close(maps[0], x)
        torch.testing.assert_close(maps[1], network.layer2(x))
        torch.testing.assert_close(maps[2], network.layer3(maps[1]))
        pooled, dense = encoder(images)
        torch.testing.assert_close(dense, maps[1])
        torch.testing.assert_close(pooled, network.forward_features(normalized).mean(dim=(2, 3)))
        network.layer4 = None
        torch.testing.assert_close(encoder.maps(images)[2], maps[2])
    assert encoder.score_names == ["layer1", "layer2", "layer3"]


@pytest.mark.parametrize(("backbone", "dense"), [("resnet10t", "layer2"), ("test_efficientnet", "blocks.2")])
def test_dropout_sits_inside_the_blocks_before_a_convolution(backbone, dense):
    encoder = Encoder(backbone)
    stages = encoder.backbone.network.feature_info
    assert [stages[index]["module"] for index in encoder.dense_index] == [dense]
    assert encoder(rand_images(1, 3, 64, 64))[1].shape[-2:] == (8, 8)
    assert len(encoder.dropouts) >= 3
    # Weights load as those of a network without dropout did: it is inserted afterwards.
    names = {name.replace(".1.weight", ".weight") for name in encoder.state_dict() if "kept" not in name}
    assert {name for name in Backbone(backbone).state_dict() if "conv2" in name} <= {name[9:] for name in names}
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


def test_early_stages_of_pretrained_networks_stay_as_they_are(no_download):
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", pre_trained=True)
    before = copy.deepcopy(encoder.state_dict())
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.1, weight_decay=0.1)
    pooled, dense = encoder.eval().train()(rand_images(4, 3, 64, 64))
    (pooled.square().sum() + dense.square().sum()).backward()
    optimizer.step()
    changed = {name for name, value in encoder.state_dict().items() if not torch.equal(value, before[name])}
    first = {name.removeprefix("backbone.network.").split(".")[0] for name in changed}
    assert first == {"layer2", "layer3", "layer4"}
    assert all(parameter.requires_grad for parameter in Encoder("test_resnet").parameters())


@torch.no_grad()
def test_passes_equal_dropout_by_hand():
    torch.manual_seed(0)
    encoder = Encoder("test_resnet", mc_samples=3).eval()
    images = rand_images(2, 3, 64, 64)
    together = encoder.passes(images, range(4))
    in_parts = [encoder.passes(images, part) for part in (range(1), range(1, 3), range(3, 4))]
    for stage, maps in enumerate(together):
        torch.testing.assert_close(torch.cat([part[stage] for part in in_parts]), maps)
        torch.testing.assert_close(maps[0], encoder.maps(images)[stage])
        assert not torch.allclose(maps[1], maps[2])
    # A pass is the network with some input channels of these convolutions at 0 and the others enlarged.
    kept = [dropout.kept[2].flatten() for dropout in encoder.dropouts]
    assert all((values - 1 / 0.9).abs().minimum(values).max() < 1e-6 for values in kept)
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
def test_random_masks_differ_between_calls_and_images():
    encoder = Encoder("test_resnet", mc_masks="random", mc_samples=3).eval()
    images = rand_images(1, 3, 64, 64).expand(2, -1, -1, -1)
    maps, again = encoder.passes(images, range(4))[0], encoder.passes(images, range(4))[0]
    torch.testing.assert_close(maps[0], again[0])
    assert not torch.equal(maps[1], again[1])
    assert not torch.equal(maps[1, 0], maps[1, 1])
    # No statistics of batch norm were touched, nothing is left in training mode.
    assert not any(module.training for module in encoder.modules())


def test_backbones_without_blocks_for_dropout_need_to_do_without_uncertainty():
    with pytest.raises(ValueError, match="mc_samples"):
        Encoder("convnext_atto", mc_samples=2)
    assert Encoder("convnext_atto", mc_samples=0).dropouts == []
