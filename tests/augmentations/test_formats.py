# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What every augmentation promises about data types, memory formats, gradients and memory."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from anomalib_ssl.augmentations import (
    BlendedPatch,
    ColorJitter,
    CutPaste,
    CutPasteScar,
    LocalAugmentation,
    LocalCorruption,
    RandomCrop,
    RandomShift,
    Symmetries,
)

ALL = [CutPaste(), CutPasteScar(), RandomShift(6), RandomCrop(40), ColorJitter(), LocalAugmentation()]
every_augmentation = pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def rand_bytes(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


@every_augmentation
def test_bytes_give_what_floats_give(augmentation):
    images = rand_bytes(6, 3, 64, 64)
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    result, masks = augmentation.apply(images, parameters)
    expected, expected_masks = augmentation.apply(images / 255, parameters)
    assert result.dtype == torch.uint8
    assert torch.equal(masks, expected_masks)
    # Half a grey level of rounding after the jitter, another one where a scar is interpolated from rounded pixels.
    assert (result - expected * 255).abs().max() <= 1.01


@pytest.mark.parametrize(
    "augmentation", [*ALL, LocalCorruption(), BlendedPatch(), Symmetries(rotation=9)], ids=lambda a: type(a).__name__
)
@pytest.mark.parametrize("drawn", [2, 6])
def test_parameters_of_another_number_of_images_are_refused(augmentation, drawn):
    parameters = augmentation.sample((drawn, 3, 64, 64))
    with pytest.raises(
        ValueError, match=f"parameters must be of as many samples as there are images, got {drawn} for 4"
    ):
        augmentation.apply(rand_images(4, 3, 64, 64), parameters)


@pytest.mark.parametrize(
    "augmentation", [CutPaste(jitter=0.0), RandomShift(6), RandomCrop(40)], ids=lambda a: type(a).__name__
)
def test_bytes_without_arithmetic_are_copied(augmentation):
    images = rand_bytes(6, 3, 64, 64)
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, _ = augmentation.apply(images.double(), parameters)
    assert torch.equal(augmentation.apply(images, parameters)[0].double(), expected)


@every_augmentation
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_channels_last_is_kept_and_changes_nothing(augmentation, dtype):
    images = rand_bytes(6, 3, 48, 64) if dtype == torch.uint8 else rand_images(6, 3, 48, 64)
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, expected_masks = augmentation.apply(images, parameters)
    result, masks = augmentation.apply(images.contiguous(memory_format=torch.channels_last), parameters)
    assert expected.is_contiguous()
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, expected)
    assert torch.equal(masks, expected_masks)


@every_augmentation
def test_any_strides_are_read(augmentation):
    images = rand_images(6, 3, 80, 80)[:, :, 3:67, 9:73]
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, _ = augmentation.apply(images.contiguous(), parameters)
    assert torch.equal(augmentation.apply(images, parameters)[0], expected)


@every_augmentation
def test_one_image_alone_gives_the_same(augmentation):
    # Batches are worked on in blocks; where these end must not show.
    images = rand_images(5, 3, 300, 300)
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    together, _ = augmentation.apply(images, parameters)
    for i in range(len(images)):
        own = {name: value[i : i + 1] if len(value) == len(images) else value for name, value in parameters.items()}
        torch.testing.assert_close(augmentation.apply(images[i : i + 1], own)[0][0], together[i], atol=5e-6, rtol=0)


@pytest.mark.parametrize(
    "augmentation",
    [
        CutPaste((0.1, 0.2)),
        CutPasteScar((1, 2), (2, 4), reference_size=None),
        RandomShift(2, reference_size=None),
        RandomCrop(5),
        ColorJitter(),
        LocalAugmentation((4, 6), None, weighting="static", tries=1),
    ],
    ids=lambda a: type(a).__name__,
)
def test_gradients_flow(augmentation):
    images = (0.2 + 0.6 * rand_images(2, 3, 9, 9).double()).requires_grad_()
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(lambda x: augmentation.apply(x, parameters)[0], (images,))


@pytest.mark.parametrize("blend", ["hard", "soft", "poisson"])
def test_gradients_flow_through_blended_patches(blend):
    augmentation = BlendedPatch(blend=blend, height=(0.3, 0.6), width=(0.3, 0.6))
    images = (0.3 + 0.4 * rand_images(3, 1, 16, 16).double()).requires_grad_()
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    direction, weights = rand_images(3, 1, 16, 16, seed=1).double(), rand_images(3, 1, 16, 16, seed=2).double()

    def total(moved):
        return (weights * augmentation.apply(moved, parameters)[0]).sum()

    total(images).backward()
    with torch.no_grad():
        slope = (total(images + 1e-4 * direction) - total(images - 1e-4 * direction)) / 2e-4
    assert (images.grad * direction).sum() == pytest.approx(float(slope), rel=1e-4)


def peak_bytes(function):
    """Largest number of bytes that ``function`` holds at any time, its result among them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = function()
    held = peak = 0
    for event in sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    del result
    return peak


def test_memory_is_counted_right():
    def work():
        first = torch.zeros(1000, dtype=torch.uint8)
        second = torch.zeros(3000, dtype=torch.uint8)
        del first
        third = torch.zeros(500, dtype=torch.uint8)
        return second, third

    assert peak_bytes(work) == 4000


@every_augmentation
def test_memory_is_a_small_multiple_of_the_output(augmentation):
    images = rand_images(16, 3, 128, 128)
    parameters = augmentation.sample(images.shape)
    assert peak_bytes(lambda: augmentation.apply(images, parameters)[0]) <= 4 * images.nbytes


def test_bad_host_sizes_do_not_read_beyond_the_image():
    images = rand_images(2, 3, 16, 16)
    augmentation = CutPaste(jitter=0.0)
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    parameters["max_pixels"] = torch.tensor([[10_000]])
    expected = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(augmentation.apply(images, parameters)[0], augmentation.apply(images, expected)[0])
