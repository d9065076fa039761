# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Dilated networks against what they give without dilation."""

import copy
import math

import pytest
import torch
from torch import nn

from anomalib_ssl.models.components import Backbone, dilated, find_dilations


def conv(inputs, outputs, kernel=3, **kwargs) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **kwargs),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Residual(nn.Module):
    """Two convolutions beside a strided shortcut."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.body = nn.Sequential(conv(inputs, outputs, stride=stride), conv(outputs, outputs, groups=2))
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, images):
        return self.body(images) + self.shortcut(images)


def small_network() -> nn.Sequential:
    """Four halvings, by convolutions and pooling, in evaluation mode and float64."""
    torch.manual_seed(0)
    network = nn.Sequential(
        conv(3, 8, 5, stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),
        Residual(8, 8, stride=2),
        Residual(8, 8, stride=2),
        conv(8, 4, dilation=1),
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.double().eval()


def rand_images(side=128, seed=0):
    return torch.rand(1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def fine_map(network, output_stride, images):
    with dilated(network, find_dilations(network, output_stride)):
        return network(images)


@torch.no_grad()
@pytest.mark.parametrize("side", [128, 141])
@pytest.mark.parametrize("output_stride", [2, 4, 8])
def test_it_agrees_at_the_positions_of_the_coarse_map(output_stride, side):
    network = small_network()
    images = rand_images(side)
    coarse, fine = network(images), fine_map(network, output_stride, images)
    assert coarse.shape[-1] == math.ceil(side / 16)
    assert fine.shape[-1] == math.ceil(side / output_stride)
    step = 16 // output_stride
    assert coarse.std() > 1e-3
    # Padding grows with the dilation, so that even at the border both see the same.
    torch.testing.assert_close(fine[..., ::step, ::step], coarse)


@torch.no_grad()
def test_full_resolution():
    network = nn.Sequential(conv(3, 8, stride=2), Residual(8, 4, stride=2)).double().eval()
    fine = fine_map(network, 1, rand_images(64))
    assert fine.shape[-2:] == (64, 64)
    torch.testing.assert_close(fine[..., ::4, ::4], network(rand_images(64)))


@torch.no_grad()
def test_between_them_it_gives_what_the_network_gives_for_the_moved_image():
    network = small_network()
    images = rand_images(256)
    fine = fine_map(network, 4, images)
    for down, right in ((4, 0), (0, 12), (8, 4)):
        # The image moved up and left: its pixel (0, 0) is (down, right).
        moved = network(images.roll((-down, -right), dims=(2, 3)))
        expected = moved[..., 5:10, 5:10]
        found = fine[..., down // 4 :: 4, right // 4 :: 4][..., 5:10, 5:10]
        torch.testing.assert_close(found, expected)
        assert not torch.allclose(found, network(images)[..., 5:10, 5:10])


@torch.no_grad()
def test_resolution_that_is_fine_enough_already_is_left_alone():
    network = small_network()
    assert find_dilations(network, 16) == {}


@torch.no_grad()
def test_dilation_of_the_networks_own_is_kept():
    torch.manual_seed(0)
    own = nn.Conv2d(4, 4, 3, padding=2, dilation=2)
    network = nn.Sequential(conv(3, 4, stride=2), conv(4, 4, stride=2), own).double().eval()
    images = rand_images(128)
    fine = fine_map(network, 2, images)
    torch.testing.assert_close(fine[..., ::2, ::2], network(images))


@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_timm_networks(name):
    torch.manual_seed(0)
    network = Backbone(name).eval()
    if name.startswith("efficientnet"):
        # Squeeze-and-excitation looks at the whole map, whose positions are others in a finer one.
        for module in network.modules():
            if hasattr(module, "se"):
                module.se = nn.Identity()
    network.double()
    images = rand_images(128)
    coarse, fine = network(images), fine_map(network, 8, images)
    assert fine.shape[-2:] == (16, 16)
    torch.testing.assert_close(fine[..., ::4, ::4], coarse)


class Parent(nn.Module):
    """A network and its dilations, kept as the models keep them."""

    def __init__(self):
        super().__init__()
        self.network = small_network()
        self.dilations = find_dilations(self.network, 4)

    def forward(self, images):
        with dilated(self.network, self.dilations):
            fine = self.network(images)
        # At the positions of the coarse map, both are the same.
        return self.network(images), fine[..., ::4, ::4]


@torch.no_grad()
def assert_follows(parent):
    dtype = next(parent.parameters()).dtype
    coarse, fine = parent.eval()(rand_images().to(dtype))
    tolerances = {} if dtype == torch.float64 else {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(fine, coarse, **tolerances)
    assert coarse.std() > 1e-4
    return coarse


def scaled_state(parent):
    state = parent.state_dict()
    return {name: value * 1.3 if value.is_floating_point() else value for name, value in state.items()}


def saved_and_loaded(parent, tmp_path):
    torch.save(parent, tmp_path / "parent.pt")
    return torch.load(tmp_path / "parent.pt", weights_only=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda parent, _: copy.deepcopy(parent),
        saved_and_loaded,
        lambda parent, _: parent.float(),
        lambda parent, _: nn.SyncBatchNorm.convert_sync_batchnorm(parent),
    ],
    ids=["deepcopy", "torch.save", "float", "sync_batchnorm"],
)
@pytest.mark.parametrize("assign", [False, True])
def test_it_follows_the_weights_of_a_copied_or_changed_network(change, assign, tmp_path):
    parent = Parent()
    before = assert_follows(parent)
    changed = change(parent, tmp_path)
    torch.testing.assert_close(assert_follows(changed).double(), before, rtol=1e-3, atol=1e-4)
    changed.load_state_dict(scaled_state(changed), assign=assign)
    loaded = assert_follows(changed)
    assert not torch.allclose(loaded.double(), before)

    changed.network.train()
    optimizer = torch.optim.SGD(changed.parameters(), lr=0.1, momentum=0.9)
    # Converted batch norm trains on accelerators only.
    if not any(isinstance(module, nn.SyncBatchNorm) for module in changed.modules()):
        for _ in range(2):
            optimizer.zero_grad()
            changed.network(rand_images(64).to(loaded.dtype)).square().mean().backward()
            optimizer.step()
        assert not torch.allclose(assert_follows(changed), loaded)


def test_the_network_is_given_back_as_it_was():
    network = small_network().train()
    expected = copy.deepcopy(network)
    dilations = find_dilations(network, 2)
    assert len(dilations) > 5
    with dilated(network, dilations):
        assert str(network) != str(expected)
    assert str(network) == str(expected)
    with pytest.raises(RuntimeError, match="channels"), dilated(network, dilations):
        network(torch.zeros(1, 2, 16, 16, dtype=torch.float64))
    assert network.training
    assert str(network) == str(expected)
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 2, stride=2)),
        nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(4, 4, 3, stride=2)
        ),
    ],
    ids=["average pooling", "even kernel", "padding on one side"],
)
def test_other_ways_of_shrinking_are_refused(network):
    with pytest.raises(ValueError, match="dense='convolutional' needs a backbone"):
        find_dilations(network, 2)


# Average pooling in the shortcuts, padding on one side as in TensorFlow, even kernels.
@pytest.mark.parametrize("name", ["resnet10t", "tf_mobilenetv3_small_minimal_100", "test_convnext"])
def test_unsuitable_timm_networks_are_refused(name):
    with pytest.raises(ValueError, match="dense='convolutional' needs a backbone"):
        find_dilations(Backbone(name), 4)
