# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Augmentations on a GPU: the results of the CPU, and a host that never waits."""

import os

import pytest
import torch

from anomalib_ssl.augmentations import (
    ColorJitter,
    CutPaste,
    CutPasteScar,
    LocalAugmentation,
    LocalCorruption,
    RandomShift,
    Symmetries,
)
from anomalib_ssl.models.cutpaste.views import VARIANTS, CutPasteViews

pytestmark = pytest.mark.gpu
# What cuBLAS needs to be deterministic, to be set before its first use.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
PASTES = [CutPaste(), CutPasteScar(), RandomShift(6), ColorJitter()]
ALL = [*PASTES, LocalAugmentation()]


def rand_images():
    return torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_same_parameters_give_the_same_result_as_on_the_cpu(augmentation):
    images = rand_images()
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, expected_masks = augmentation.apply(images, parameters)
    result, masks = augmentation.apply(images.cuda(), parameters)
    agree = (masks.cpu() == expected_masks).expand_as(expected)
    assert (~agree).float().mean() < 1e-4
    torch.testing.assert_close(result.cpu()[agree], expected[agree], atol=1e-4, rtol=0)


@pytest.fixture
def no_synchronisation():
    """Make whatever lets the host wait for the device an error, once the fixture's value is called."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_host_synchronisation(augmentation, dtype, memory_format, no_synchronisation):
    images = (rand_images() * 255).to(dtype).cuda().contiguous(memory_format=memory_format)
    augmentation(images)
    no_synchronisation()
    augmentation(images)
    augmentation(images, torch.Generator("cuda").manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_host_synchronisation_in_the_views(variant, no_synchronisation):
    task = CutPasteViews(variant, *PASTES)
    images = rand_images().cuda()
    task(images)
    no_synchronisation()
    task(images)


def test_generator_on_the_device_decides_everything():
    images = rand_images().cuda()
    generator = torch.Generator("cuda")
    draws = []
    for seed, host_seed in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(host_seed)
        draws.append(ColorJitter(0.4, 0.4, 0.4, 0.4)(images, generator.manual_seed(seed))[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_seed_decides(augmentation):
    images = rand_images().cuda()
    torch.manual_seed(0)
    first = augmentation(images)[0]
    torch.manual_seed(0)
    assert torch.equal(augmentation(images)[0], first)


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


OTHERS = [
    LocalCorruption(p=1.0),
    Symmetries(("vertical",), True, 20, 0.1),
]


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("augmentation", ALL + OTHERS, ids=lambda a: type(a).__name__)
def test_deterministic_algorithms_have_gradients(augmentation):
    images = rand_images().cuda().requires_grad_()
    parameters = augmentation.sample(images.shape, images.device)
    gradients = []
    for _ in range(2):
        images.grad = None
        augmentation.apply(images, parameters)[0].square().sum().backward()
        gradients.append(images.grad)
    assert torch.equal(*gradients)
