# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Augmentations on a GPU: the results of the CPU, and a host that never waits."""

import pytest
import torch

from anomalib_ssl.augmentations import ColorJitter, CutPaste, CutPasteScar, RandomShift

pytestmark = pytest.mark.gpu
ALL = [CutPaste(), CutPasteScar(), RandomShift(6), ColorJitter()]


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


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_no_host_synchronisation(augmentation):
    images = rand_images().cuda()
    augmentation(images)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmentation(images)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_seed_decides(augmentation):
    images = rand_images().cuda()
    torch.manual_seed(0)
    first = augmentation(images)[0]
    torch.manual_seed(0)
    assert torch.equal(augmentation(images)[0], first)
