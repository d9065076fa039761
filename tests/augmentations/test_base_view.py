# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Colour jitter and translation of whole images against torchvision and padding."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812
from torchvision.transforms.v2 import functional as tv

from anomalib_ssl.augmentations import ColorJitter, RandomShift, color_jitter, shift_images


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_jitter_equals_torchvision(order):
    images = torch.rand(6, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    # Grey, black, white and pure colours are where hue is undefined or changes sextant.
    images[0, :, :4] = torch.rand(4, 28, generator=torch.Generator().manual_seed(1))
    images[1, :, :2], images[1, :, 2:4] = 0, 1
    images[2, 0], images[2, 1:] = 1, 0
    parameters = ColorJitter(0.4, 0.4, 0.4, 0.5).sample(images.shape, generator=torch.Generator().manual_seed(2))
    parameters["order"] = torch.tensor([order])
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    names = ("brightness", "contrast", "saturation", "hue")
    for i, image in enumerate(images):
        expected = image
        for operation in order:
            expected = adjust[operation](expected, parameters[names[operation]][i].item())
        result = color_jitter(
            images[i : i + 1],
            {name: value[i : i + 1] for name, value in parameters.items() if name in names}
            | {"order": parameters["order"]},
        )
        torch.testing.assert_close(result[0], expected, atol=5e-6, rtol=0)


def test_jitter_of_a_batch_equals_jitter_of_its_samples():
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    jitter = ColorJitter(0.3, 0.3, 0.3, 0.3)
    parameters = jitter.sample(images.shape, generator=torch.Generator().manual_seed(0))
    together, masks = jitter.apply(images, parameters)
    assert masks.all()
    for i in range(5):
        own = {name: value if name == "order" else value[i : i + 1] for name, value in parameters.items()}
        torch.testing.assert_close(jitter.apply(images[i : i + 1], own)[0][0], together[i])


def test_jitter_strengths_keep_to_their_ranges():
    p = ColorJitter(0.1, 0.2, 0.3, 0.05).sample((10_000, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    for name, low, high in (
        ("brightness", 0.9, 1.1),
        ("contrast", 0.8, 1.2),
        ("saturation", 0.7, 1.3),
        ("hue", -0.05, 0.05),
    ):
        assert low <= p[name].min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < p[name].max() <= high


def test_zero_strength_is_the_identity():
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(ColorJitter(0, 0, 0, 0)(images)[0], images)


def test_every_order_occurs():
    orders = {
        tuple(ColorJitter().sample((1, 3, 8, 8), generator=torch.Generator().manual_seed(seed))["order"][0].tolist())
        for seed in range(300)
    }
    assert len(orders) == 24


def test_shift_equals_reflect_padding_and_cropping():
    images = torch.rand(20, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    augment = RandomShift(9, reference_size=None)
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
    result, _ = augment.apply(images, parameters)
    padded = F.pad(images, [9] * 4, mode="reflect")
    for i in range(len(images)):
        top, left = 9 + int(parameters["shift_y"][i]), 9 + int(parameters["shift_x"][i])
        assert torch.equal(result[i], padded[i, :, top : top + 24, left : left + 32])


def test_shift_draws_all_offsets():
    p = RandomShift(3, reference_size=None).sample((2_000, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    assert p["shift_y"].unique().tolist() == list(range(-3, 4))
    assert p["shift_x"].unique().tolist() == list(range(-3, 4))


def test_shift_moves_masks_with_the_image():
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    augment = RandomShift(5, reference_size=None)
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(1))
    moved = shift_images(images, parameters)
    assert torch.equal(augment.apply_to_masks(images > 0.5, parameters), moved > 0.5)


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: ColorJitter(brightness=-1), "brightness"),
        (lambda: ColorJitter(saturation=2), "saturation"),
        (lambda: ColorJitter(hue=0.6), "hue"),
        (lambda: RandomShift(-1), "max_shift"),
        (lambda: RandomShift(4, reference_size=0), "reference_size"),
        (lambda: RandomShift(8, reference_size=None)(torch.zeros(1, 3, 8, 8)), "max_shift"),
    ],
)
def test_bad_arguments_are_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()
