# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random crops against slices."""

import pytest
import torch

from anomalib_ssl.augmentations import RandomCrop


def rand_images(*shape, dtype=torch.float32):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return (images if dtype.is_floating_point else images * 256).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_crops_are_slices(dtype, memory_format):
    images = rand_images(6, 3, 20, 30, dtype=dtype).contiguous(memory_format=memory_format)
    crop = RandomCrop(12)
    parameters = crop.sample(images.shape, generator=torch.Generator().manual_seed(1))
    crops, masks = crop.apply(images, parameters)
    assert crops.dtype == dtype
    assert crops.is_contiguous(memory_format=memory_format)
    for image, cropped, top, left in zip(images, crops, parameters["top"], parameters["left"], strict=True):
        assert torch.equal(cropped, image[:, top : top + 12, left : left + 12])
    assert masks.shape == (6, 1, 12, 12)
    assert masks.dtype == torch.bool
    assert masks.all()


def test_the_same_parameters_and_the_same_seed_give_the_same_crops():
    images = rand_images(8, 3, 24, 24)
    crop = RandomCrop(9)
    first, _ = crop(images, torch.Generator().manual_seed(3))
    again, _ = crop(images, torch.Generator().manual_seed(3))
    parameters = crop.sample(images.shape, generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert torch.equal(crop.apply(images, parameters)[0], first)
    assert not torch.equal(crop(images, torch.Generator().manual_seed(4))[0], first)


def test_masks_are_cropped_with_their_images():
    images = rand_images(5, 3, 16, 22)
    masks = images[:, :1] > 0.5
    crop = RandomCrop(10)
    parameters = crop.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected = crop.apply(images, parameters)[0][:, :1] > 0.5
    assert torch.equal(crop.apply_to_masks(masks, parameters), expected)
    assert torch.equal(crop.apply_to_masks(masks.float(), parameters), expected.float())


def test_places_are_uniform():
    # 4 x 6 places, each expected 1000 times with a standard deviation of 31.
    parameters = RandomCrop(5).sample((24_000, 3, 8, 10), generator=torch.Generator().manual_seed(0))
    places = parameters["top"] * 6 + parameters["left"]
    assert (parameters["top"].min(), parameters["top"].max()) == (0, 3)
    assert (parameters["left"].min(), parameters["left"].max()) == (0, 5)
    counts = torch.bincount(places, minlength=24)
    # Chi-square with 23 degrees of freedom: beyond 50 once in a thousand seeds.
    assert ((counts - 1000).square() / 1000).sum() < 50


def test_a_crop_of_the_whole_image_is_the_image():
    images = rand_images(2, 3, 16, 16)
    assert torch.equal(RandomCrop(16)(images)[0], images)


def test_too_large_a_crop_is_named():
    with pytest.raises(ValueError, match=r"size .*17 pixels.*\(16, 20\)"):
        RandomCrop(17)(torch.zeros(1, 3, 16, 20))
    with pytest.raises(ValueError, match="size"):
        RandomCrop(0)
