# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The autoencoder: size, dilation rates and shapes."""

import pytest
import torch
from torch import nn

from anomalib_ssl.models.autoencoder_projection.network import (
    SDCAutoencoder,
    StackedDilatedConvolution,
    default_dilations,
)

TINY = {"widths": (4, 6, 8), "sdc_layers": 2, "sdc_width": 3}


def count(**arguments) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in SDCAutoencoder(**arguments).parameters())


@pytest.mark.parametrize(
    ("arguments", "exact", "millions"),
    [
        ({}, 9_843_331, 9.84),
        ({"image_size": (512, 512)}, 13_501_571, 13.50),
        ({"image_size": (512, 512), "widths": (64, 128, 256)}, 17_470_723, 17.47),
    ],
)
def test_number_of_parameters(arguments, exact, millions):
    assert count(**arguments) == exact
    assert round(exact / 1e6, 2) == millions


def test_number_of_parameters_by_hand():
    a, b, c, sdc, rates = 4, 6, 8, 3, 5

    def block(inputs, outputs):
        return 9 * inputs * outputs + 2 * outputs

    encoder = block(3, a) + block(a, a) + block(a, b) + block(b, b) + block(b, c) + block(c, c)
    stack = sdc * rates
    middle = 25 * c * stack + 2 * stack + 25 * stack * stack + 2 * stack
    decoder = block(stack, c) + block(c, b) + block(b, a) + 2 * (block(c, c) + block(b, b) + block(a, a))
    assert count(**TINY) == encoder + middle + decoder + 3 * a + 3


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((8, 8), (1,)),
        ((64, 64), (1, 2, 4)),
        ((128, 128), (1, 2, 4, 8)),
        ((256, 256), (1, 2, 4, 8, 16)),
        ((512, 512), (1, 2, 4, 8, 16, 32)),
        ((2048, 2048), (1, 2, 4, 8, 16, 32)),
        ((64, 256), (1, 2, 4, 8, 16)),
    ],
)
def test_default_dilations(size, expected):
    assert default_dilations(size) == expected
    assert SDCAutoencoder(size, **TINY).dilations == expected


@pytest.mark.parametrize(("rate", "sees_more"), [(4, True), (7, True), (8, False), (16, False)])
def test_rates_that_are_dropped_see_one_position_only(rate, sees_more):
    convolution = StackedDilatedConvolution(1, 1, [rate]).convolutions[0]
    features = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    center = convolution.weight[..., 2, 2] * features
    assert torch.allclose(convolution(features), center, atol=1e-6) != sees_more
    assert (rate in default_dilations((64, 64)) or rate == 7) == sees_more


def test_stack_equals_convolutions_side_by_side():
    torch.manual_seed(0)
    stack = StackedDilatedConvolution(4, 3, (1, 2)).eval()
    features = torch.randn(2, 4, 9, 11)
    expected = [
        nn.functional.conv2d(features, convolution.weight, padding=2 * rate, dilation=rate)
        for rate, convolution in zip((1, 2), stack.convolutions, strict=True)
    ]
    # Batch norm of a fresh network divides by a standard deviation of 1.
    torch.testing.assert_close(stack(features), torch.cat(expected, dim=1).relu() / (1 + 1e-5) ** 0.5)


@pytest.mark.parametrize("size", [(64, 64), (40, 72)])
def test_reconstructions_have_the_shape_and_range_of_images(size):
    torch.manual_seed(0)
    autoencoder = SDCAutoencoder(size, **TINY)
    images = torch.rand(2, 3, *size)
    reconstruction = autoencoder(images)
    assert reconstruction.shape == images.shape
    assert ((reconstruction > 0) & (reconstruction < 1)).all()
    # Everything is used.
    reconstruction.square().sum().backward()
    unused = [name for name, value in autoencoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert unused == []


def test_all_passes_through_the_bottleneck():
    torch.manual_seed(0)
    images = torch.rand(1, 3, 32, 32)
    autoencoder = SDCAutoencoder((32, 32), **TINY).eval()
    autoencoder.bottleneck.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    with torch.no_grad():
        assert torch.equal(autoencoder(images), autoencoder(1 - images))


def test_each_convolution_has_a_batch_norm_of_its_own():
    modules = [module for module in SDCAutoencoder((64, 64), **TINY).modules() if isinstance(module, nn.BatchNorm2d)]
    # Two for each level down and up, one for each way up and each stack.
    assert len({id(module) for module in modules}) == len(modules) == 6 + 6 + 3 + 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": (100, 96)}, r"image_size.*multiples of 8.*\(100, 96\)"),
        ({"image_size": (0, 8)}, "image_size"),
        ({"widths": (4, 8)}, "widths"),
        ({"widths": (4, 0, 8)}, "widths"),
        ({"sdc_layers": 0}, "sdc_layers"),
        ({"sdc_width": 0}, "sdc_width"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        SDCAutoencoder(**{**TINY, **arguments})


def test_images_of_other_sides_are_refused():
    with pytest.raises(ValueError, match=r"images must have sides that are multiples of 8 pixels, got \(60, 64\)"):
        SDCAutoencoder((64, 64), **TINY)(torch.zeros(1, 3, 60, 64))
