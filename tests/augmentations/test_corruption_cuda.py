# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local corruption, blended patches and symmetries on a GPU: the results of the CPU, and a host that never waits."""

import pytest
import torch

from anomalib_ssl.augmentations import BlendedPatch, LocalCorruption, Symmetries

pytestmark = pytest.mark.gpu
SYMMETRIES = Symmetries(("horizontal", "vertical"), quarter_turns=True, rotation=10, shift=0.05)
ALL = [LocalCorruption(), SYMMETRIES, BlendedPatch(), BlendedPatch(gradients="mixed", background=0.2)]
every_augmentation = pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)


def rand_images():
    return torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(0))


@every_augmentation
def test_same_parameters_give_the_same_result_as_on_the_cpu(augmentation):
    images = rand_images()
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, expected_masks = augmentation.apply(images, parameters)
    result, masks = augmentation.apply(images.cuda(), parameters)
    agree = (masks.cpu() == expected_masks).expand_as(expected)
    assert (~agree).float().mean() < 1e-3
    # White noise is steep: a displacement that differs in its last digits moves a value visibly.
    assert ((result.cpu() - expected).abs()[agree] > 1e-3).float().mean() < 1e-3


@pytest.fixture
def no_synchronisation():
    """Make whatever lets the host wait for the device an error, once the fixture's value is called."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_no_host_synchronisation(augmentation, dtype, memory_format, no_synchronisation):
    images = (rand_images() * 255).to(dtype).cuda().contiguous(memory_format=memory_format)
    augmentation(images)
    no_synchronisation()
    augmentation(images)
    augmentation(images, torch.Generator("cuda").manual_seed(0))


def test_generator_on_the_device_decides_everything():
    images = rand_images().cuda()
    generator = torch.Generator("cuda")
    draws = []
    for seed, host_seed in ((0, 1), (0, 2), (3, 1)):
        torch.manual_seed(host_seed)
        draws.append(LocalCorruption()(images, generator.manual_seed(seed))[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_every_corruption_shows():
    for value in (0.0, 0.5, 1.0):
        images = torch.full((64, 3, 64, 64), value, device="cuda")
        result, masks = LocalCorruption(p=1.0)(images)
        change = ((result - images).abs() * masks).sum(dim=(1, 2, 3)) / masks.sum(dim=(1, 2, 3)) / 3
        assert change.min() >= 0.02
