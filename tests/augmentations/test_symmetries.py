# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Flips and turns against torch, rotations and shifts against SciPy."""

import math

import numpy as np
import pytest
import torch
from kornia.augmentation import AugmentationSequential
from scipy import ndimage

from anomalib_ssl.augmentations import KorniaAugmentation, Symmetries, flip_and_turn, rotate_and_shift

EVERYTHING = Symmetries(("horizontal", "vertical"), quarter_turns=True, rotation=20, shift=0.1)


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def draw(augment, shape, seed=0):
    return augment.sample(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.float64, torch.bool])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_flips_and_turns_are_exact(dtype, memory_format):
    images = (rand_images(16, 3, 20, 20) * 255).to(dtype).contiguous(memory_format=memory_format)
    number = torch.arange(16)
    parameters = {"flip_x": number % 2 == 1, "flip_y": number // 2 % 2 == 1, "turns": number // 4}
    result = flip_and_turn(images, parameters)
    for i, image in enumerate(images):
        dims = [dim for name, dim in (("flip_x", -1), ("flip_y", -2)) if parameters[name][i]]
        expected = torch.rot90(image.flip(dims), int(parameters["turns"][i]), (-2, -1))
        assert torch.equal(result[i], expected)
    assert result.dtype == dtype
    assert result.is_contiguous(memory_format=memory_format)


def test_autocast_changes_nothing():
    images, parameters = rand_images(4, 3, 40, 40), draw(EVERYTHING, (4, 3, 40, 40))
    expected, _ = EVERYTHING.apply(images, parameters)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(EVERYTHING.apply(images, parameters)[0], expected)


@pytest.mark.parametrize("name", ["horizontal", "vertical"])
def test_single_flips_of_oblong_images(name):
    images = rand_images(40, 3, 16, 30)
    augment = Symmetries(flips=[name])
    parameters = draw(augment, images.shape)
    (flipped,) = parameters.values()
    assert 8 < flipped.sum() < 32
    result, masks = augment.apply(images, parameters)
    expected = torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1 if name == "horizontal" else -2), images)
    assert torch.equal(result, expected)
    assert masks.all()


@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 52), (41, 33)])
def test_rotation_equals_scipy(height, width):
    images = rand_images(6, 2, height, width).double()
    parameters = {"angle": torch.linspace(-0.5, 0.5, 6).double()}
    parameters |= {name: torch.zeros(6).double() for name in ("shift_y", "shift_x")}
    result = rotate_and_shift(images, parameters)
    for i, image in enumerate(images.numpy()):
        degrees = math.degrees(parameters["angle"][i])
        # SciPy turns the first axis towards the second: from top to right is clockwise where rows go down.
        expected = [ndimage.rotate(c, degrees, axes=(1, 0), reshape=False, order=1, mode="nearest") for c in image]
        np.testing.assert_allclose(result[i], np.stack(expected), atol=1e-5)


def test_shift_equals_scipy():
    images = rand_images(6, 1, 24, 36).double()
    shift = torch.linspace(-5, 4.3, 6).double()
    result = rotate_and_shift(images, {"angle": torch.zeros(6).double(), "shift_y": shift, "shift_x": -shift / 2})
    for i, image in enumerate(images.numpy()):
        expected = ndimage.shift(image[0], (shift[i], -shift[i] / 2), order=1, mode="nearest")
        np.testing.assert_allclose(result[i, 0], expected, atol=1e-5)


def test_rotation_comes_before_the_shift():
    images = rand_images(1, 1, 31, 31).double()
    parameters = {"angle": torch.tensor([math.pi / 2]), "shift_y": torch.tensor([4.0]), "shift_x": torch.tensor([-2.0])}
    expected = torch.rot90(images, 1, (-2, -1))
    result = rotate_and_shift(images, parameters)
    torch.testing.assert_close(result[..., 4:, :-2], expected[..., :-4, 2:], atol=1e-5, rtol=0)


def test_uncovered_places_repeat_the_border():
    ramp = torch.arange(16.0).div(16).expand(1, 1, 16, 16).contiguous()
    parameters = {"angle": torch.zeros(1), "shift_y": torch.zeros(1), "shift_x": torch.tensor([3.0])}
    repeated = rotate_and_shift(ramp, parameters)[0, 0, 0, :4].mul(16)
    assert repeated.tolist() == pytest.approx([0, 0, 0, 0], abs=1e-4)


def test_ranges():
    p = draw(EVERYTHING, (4000, 3, 50, 50))
    assert math.radians(19.8) < p["angle"].max() <= math.radians(20)
    assert math.radians(-20) <= p["angle"].min() < math.radians(-19.8)
    for name in ("shift_y", "shift_x"):
        assert 4.9 < p[name].max() <= 5
        assert -5 <= p[name].min() < -4.9
    assert torch.bincount(p["turns"]).sub(1000).abs().max() < 120
    for name in ("flip_x", "flip_y"):
        assert abs(p[name].float().mean() - 0.5) < 0.04


def test_nothing_is_on_by_default():
    images = rand_images(3, 3, 20, 31)
    assert draw(Symmetries(), images.shape) == {}
    assert torch.equal(Symmetries()(images)[0], images)


def test_masks_move_with_their_images():
    images = (rand_images(8, 1, 64, 64) > 2).float()
    images[:, :, 10:30, 20:50] = 1
    parameters = draw(EVERYTHING, images.shape)
    moved, _ = EVERYTHING.apply(images, parameters)
    masks = EVERYTHING.apply_to_masks(images.bool(), parameters)
    assert masks.dtype == torch.bool
    clear = (moved < 0.01) | (moved > 0.99)
    assert clear.float().mean() > 0.9
    assert torch.equal(masks[clear], moved[clear] > 0.5)
    labels = EVERYTHING.apply_to_masks(images, parameters)
    assert set(labels.unique().tolist()) == {0.0, 1.0}


def test_replay_and_seeds():
    images = rand_images(8, 3, 32, 32)
    parameters = draw(EVERYTHING, images.shape)
    assert torch.equal(EVERYTHING.apply(images, parameters)[0], EVERYTHING.apply(images, parameters)[0])
    draws = [EVERYTHING(images, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_bytes_and_channels_last():
    images = (rand_images(6, 3, 32, 32) * 255).byte()
    parameters = draw(EVERYTHING, images.shape)
    expected, _ = EVERYTHING.apply(images / 255, parameters)
    for layout in (torch.contiguous_format, torch.channels_last):
        result, _ = EVERYTHING.apply(images.contiguous(memory_format=layout), parameters)
        assert result.dtype == torch.uint8
        assert result.is_contiguous(memory_format=layout)
        assert (result - expected * 255).abs().max() <= 0.501


def test_inside_kornia():
    images, masks = rand_images(6, 3, 32, 32), (rand_images(6, 1, 32, 32, seed=1) > 0.8).float()
    pipeline = AugmentationSequential(KorniaAugmentation(EVERYTHING), data_keys=["input", "mask"])
    new_images, new_masks = pipeline(images, masks)
    parameters = pipeline._params[0].data
    assert torch.equal(new_images, EVERYTHING.apply(images, parameters)[0])
    assert torch.equal(new_masks, EVERYTHING.apply_to_masks(masks, parameters))


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: Symmetries(flips=["diagonal"]), "flips .*diagonal"),
        (lambda: Symmetries(rotation=-1), "rotation"),
        (lambda: Symmetries(shift=0.6), "shift"),
        (lambda: Symmetries(quarter_turns=True)(torch.zeros(1, 3, 8, 9)), "quarter_turns needs square images, got 8x9"),
    ],
)
def test_bad_arguments_are_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()
