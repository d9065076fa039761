# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of SSM: its size, and what the mask does in it."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.ssm.network import ConditionalAutoencoder, MaskAttention


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_number_of_parameters_is_that_of_the_authors_network():
    with torch.device("meta"):
        network = ConditionalAutoencoder()
    assert parameters(network) == 33_301_188
    assert [*map(parameters, network.encoder)] == [38_976, 279_296, 1_115_648, 4_459_520, 6_556_672]
    assert [*map(parameters, network.decoder)] == [7_343_616, 1_902_336, 476_032, 119_232]
    assert [*map(parameters, network.attention)] == [4_726_272, 4_726_272, 1_183_488, 296_832, 74_688]
    assert parameters(network.image_head) + parameters(network.mask_head) == 2_308


@pytest.fixture(params=[1, 2], ids="patch_size={}".format)
def network(request):
    torch.manual_seed(0)
    return ConditionalAutoencoder((4, 6, 8, 8, 8)[: 6 - request.param], request.param).eval()


def rand_input(height=32, width=48):
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(2, 1, height, width, generator=generator) > 0.3).float()
    return torch.rand(2, 3, height, width, generator=generator) * masks, masks


def test_restores_images_and_masks_within_the_range_of_tanh(network):
    images, masks = network(*rand_input())
    assert images.shape == (2, 3, 32, 48)
    assert masks.shape == (2, 1, 32, 48)
    assert images.abs().max() < 1
    assert network.stride == 16


def test_patches_leave_a_quarter_of_the_positions_and_keep_the_pixels_in_place():
    torch.manual_seed(0)
    network = ConditionalAutoencoder((4, 6), patch_size=2).eval()
    images, masks = rand_input()
    assert [stage.shape[-2:] for stage in network.encode(images)] == [(16, 24), (8, 12)]
    nn.init.zeros_(network.image_head.weight)
    with torch.no_grad():
        network.image_head.bias.copy_(torch.linspace(-1, 1, 12))
    restored = network.restore(images, masks)
    torch.testing.assert_close(
        restored, network.image_head.bias.view(3, 2, 2).repeat(1, 16, 24).tanh().expand(2, -1, -1, -1)
    )


def test_image_alone_is_the_image_of_both(network):
    assert torch.equal(network.restore(*rand_input()), network(*rand_input())[0])


def test_mask_enters_the_attention_blocks_only(network):
    images, masks = rand_input()
    with_mask = network.restore(images, masks)
    assert not torch.allclose(network.restore(images, torch.ones_like(masks)), with_mask)
    for block in network.attention:
        nn.init.zeros_(block.residual[-1].weight)
        nn.init.zeros_(block.residual[-1].bias)
    assert torch.equal(network.restore(images, masks), network.restore(images, 1 - masks))


def test_attention_leaves_hidden_positions_alone():
    torch.manual_seed(0)
    block = MaskAttention(4).eval()
    features, masks = torch.randn(2, 4, 8, 8), (torch.rand(2, 1, 16, 16) > 0.5).float()
    result = block(features, masks)
    hidden = (masks[..., ::2, ::2] == 0).expand_as(result)
    assert torch.equal(result[hidden], features[hidden])
    assert (result[~hidden] != features[~hidden]).all()
    normed = block.norm(features)
    residual = block.residual(torch.cat([normed, masks[..., ::2, ::2]], dim=1))
    torch.testing.assert_close(result, features + masks[..., ::2, ::2] * residual)


def test_projection_commutes_with_the_enlargement(network):
    stage, features = network.decoder[0], torch.randn(1, 8, 2, 3)
    first = stage.project(F.interpolate(features, scale_factor=2.0, mode="nearest"))
    torch.testing.assert_close(first, F.interpolate(stage.project(features), scale_factor=2.0, mode="nearest"))


def test_every_parameter_is_trained(network):
    images, masks = network.train()(*rand_input())
    (images.square().mean() + masks.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("widths", [(8,), (8, 0)])
def test_bad_widths_are_named(widths):
    with pytest.raises(ValueError, match="widths"):
        ConditionalAutoencoder(widths)


@pytest.mark.parametrize("patch_size", [0, 3, 16])
def test_bad_patch_size_is_named(patch_size):
    with pytest.raises(ValueError, match=r"patch_size must lie in \[1, 2\]"):
        ConditionalAutoencoder((4, 8), patch_size=patch_size)
