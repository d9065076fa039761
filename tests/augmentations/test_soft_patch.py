# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Soft patches and rotation: geometry, gradients in their own parameters, formats, replay."""

import math

import numpy as np
import pytest
import torch
from kornia.augmentation import AugmentationSequential
from scipy import ndimage

from anomalib_ssl.augmentations import KorniaAugmentation, Rotation, SoftPatch, soft_patch_mask
from anomalib_ssl.commands.preview import available_augmentations

KINDS = ("cutdiff", "cutout", "cutpaste")
ALL = [SoftPatch(kind) for kind in KINDS] + [Rotation()]
every_augmentation = pytest.mark.parametrize("augmentation", ALL, ids=lambda a: getattr(a, "kind", "rotation"))


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def mask(size=(101, 101), area=0.1, aspect=1.0, angle=0.0, center=(0.5, 0.5), profile="gaussian"):
    values = {"area": area, "aspect": aspect, "angle": math.radians(angle)}
    values |= {"center_y": center[0], "center_x": center[1]}
    parameters = {name: torch.tensor([value], dtype=torch.float64) for name, value in values.items()}
    return soft_patch_mask(parameters, size, profile)[0, 0]


def test_gaussian_is_three_quarters_of_a_side_wide_at_half_depth():
    side = math.sqrt(0.1) * 101
    row = mask()[50].numpy()
    assert row[50] == pytest.approx(1)
    inside = np.flatnonzero(row >= 0.5)
    left, right = inside[0], inside[-1]
    # Where the profile crosses one half, between two pixels.
    low = left - (row[left] - 0.5) / (row[left] - row[left - 1])
    high = right + (row[right] - 0.5) / (row[right] - row[right + 1])
    assert high - low == pytest.approx(0.745 * side, abs=0.05)


@pytest.mark.parametrize(("area", "aspect", "angle"), [(0.05, 1.0, 0.0), (0.1, 2.0, 30.0), (0.02, 0.4, -75.0)])
def test_area_of_the_box(area, aspect, angle):
    soft = mask((120, 120), area, aspect, angle, profile="box")
    # The soft edge adds pi^2 / 3 times its squared width in half sides.
    assert soft.mean() == pytest.approx(area * (1 + math.pi**2 / 3 * 0.01), rel=2e-3)


@pytest.mark.parametrize("profile", ["gaussian", "box"])
def test_a_quarter_turn_swaps_the_sides(profile):
    turned = mask(area=0.08, aspect=2.5, angle=90, profile=profile)
    torch.testing.assert_close(turned, mask(area=0.08, aspect=1 / 2.5, profile=profile))
    torch.testing.assert_close(turned, mask(area=0.08, aspect=2.5, profile=profile).T)


@pytest.mark.parametrize("size", [(90, 90), (60, 120)])
def test_box_equals_a_rotated_rectangle(size):
    # By brute force, in pixels: rows count downwards, angles counter-clockwise.
    area, aspect, angle, center = 0.06, 2.0, 35.0, (0.4, 0.6)
    total = size[0] * size[1]
    width, height = math.sqrt(area * aspect * total), math.sqrt(area / aspect * total)
    expected = np.zeros(size, dtype=bool)
    for row in range(size[0]):
        for col in range(size[1]):
            offset = complex(col + 0.5 - center[1] * size[1], center[0] * size[0] - row - 0.5)
            offset *= np.exp(-1j * math.radians(angle))
            expected[row, col] = abs(offset.real) < width / 2 and abs(offset.imag) < height / 2
    assert np.array_equal((mask(size, area, aspect, angle, center, "box") > 0.5).numpy(), expected)


def test_what_the_kinds_do():
    images = rand_images(2, 3, 40, 40)
    for kind in KINDS:
        patch = SoftPatch(kind, area=0.1, jitter=0.0, value=0.7)
        parameters = patch.sample(images.shape, generator=torch.Generator().manual_seed(1))
        changed, _ = patch.apply(images, parameters)
        soft = soft_patch_mask(parameters, (40, 40), "gaussian" if kind == "cutdiff" else "box")
        if kind == "cutdiff":
            expected = (images - soft).clamp(0, 1)
        else:
            source = torch.full_like(images, 0.7)
            if kind == "cutpaste":
                for number in range(2):
                    down, right = (int(parameters[name][number]) for name in ("shift_y", "shift_x"))
                    padded = np.pad(images[number].numpy(), ((0, 0), (39, 39), (39, 39)), mode="reflect")
                    source[number] = torch.from_numpy(padded[:, 39 + down : 79 + down, 39 + right : 79 + right])
            expected = (1 - soft) * images + soft * source
        torch.testing.assert_close(changed, expected)
        assert torch.equal(patch.apply_to_masks(torch.zeros(2, 1, 40, 40), parameters), patch_mask(patch, parameters))


def patch_mask(patch, parameters):
    return patch.apply(rand_images(2, 3, 40, 40), parameters)[1].float()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_patch_equal_finite_differences(kind):
    images = 0.3 + 0.5 * rand_images(2, 1, 8, 10).double()
    patch = SoftPatch(kind, jitter=0.0, value=1.0)
    drawn = patch.sample(images.shape, generator=torch.Generator().manual_seed(3))
    names = ("area", "aspect", "angle")

    def augmented(*values):
        tuned = {name: value.expand(2) for name, value in zip(names, values, strict=True)}
        return patch.apply(images, {**drawn, **tuned})[0]

    values = tuple(torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.1, 1.7, 0.4))
    assert torch.autograd.gradcheck(augmented, values)
    gradients = torch.autograd.grad(augmented(*values).square().sum(), values)
    assert all(gradient.abs() > 1e-6 for gradient in gradients)


def test_gradient_of_a_rotation_equals_finite_differences():
    images = rand_images(2, 1, 12, 12).double()
    rotation = Rotation()
    drawn = rotation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    drawn = {name: value.double() for name, value in drawn.items()}
    angle = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    def rotated(value):
        return rotation.apply(images, {**drawn, "angle": value.expand(2)})[0]

    assert torch.autograd.gradcheck(rotated, (angle,))
    assert torch.autograd.gradgradcheck(rotated, (angle,))


def test_rotation_equals_scipy():
    images = rand_images(1, 1, 32, 32).double()
    rotated = Rotation(25.0, shift=0.0)(images)[0][0, 0]
    expected = ndimage.rotate(images[0, 0].numpy(), 25.0, reshape=False, order=1, mode="reflect")
    # Rules for what is uncovered differ.
    row, col = np.mgrid[:32, :32] - 15.5
    inside = np.hypot(row, col) < 14
    np.testing.assert_allclose(rotated.numpy()[inside], expected[inside], atol=1e-6)


def test_images_that_are_not_rotated_are_blurred_alike():
    images = rand_images(64, 1, 32, 32)
    still, turned = Rotation(0.0)(images)[0], Rotation(20.0)(images)[0]
    assert images.var() > 1.2 * still.var()
    assert still[..., 8:24, 8:24].var() == pytest.approx(turned[..., 8:24, 8:24].var().item(), rel=0.1)


@every_augmentation
def test_formats(augmentation):
    images = torch.randint(0, 256, (6, 3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, masks = augmentation.apply(images / 255, parameters)
    assert masks.shape == (6, 1, 48, 64)
    assert masks.dtype == torch.bool
    result, byte_masks = augmentation.apply(images, parameters)
    assert result.dtype == torch.uint8
    assert torch.equal(byte_masks, masks)
    assert (result - expected * 255).abs().max() <= 0.51
    strided, _ = augmentation.apply((images / 255).contiguous(memory_format=torch.channels_last), parameters)
    assert strided.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(strided, expected, atol=1e-6, rtol=0)


@every_augmentation
def test_replay_seeds_and_single_images(augmentation):
    images = rand_images(5, 3, 40, 40)
    first, _ = augmentation(images, torch.Generator().manual_seed(0))
    assert torch.equal(first, augmentation(images, torch.Generator().manual_seed(0))[0])
    assert not torch.equal(first, augmentation(images, torch.Generator().manual_seed(1))[0])
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, augmentation.apply(images, parameters)[0])
    for number in range(5):
        own = {name: value[number : number + 1] if len(value) == 5 else value for name, value in parameters.items()}
        alone, _ = augmentation.apply(images[number : number + 1], own)
        torch.testing.assert_close(alone[0], first[number], atol=1e-6, rtol=0)


@every_augmentation
def test_inside_kornia(augmentation):
    images, masks = rand_images(4, 3, 32, 32), torch.zeros(4, 1, 32, 32)
    pipeline = AugmentationSequential(KorniaAugmentation(augmentation), data_keys=["input", "mask"])
    new_images, new_masks = pipeline(images, masks)
    parameters = pipeline._params[0].data
    assert torch.equal(new_images, augmentation.apply(images, parameters)[0])
    assert torch.equal(new_masks, augmentation.apply_to_masks(masks, parameters))


def test_places_are_uniform_and_differ_within_a_batch():
    parameters = SoftPatch("cutpaste").sample((4000, 3, 20, 30), generator=torch.Generator().manual_seed(0))
    for name in ("center_y", "center_x"):
        counts = np.histogram(parameters[name], bins=10, range=(0, 1))[0]
        assert abs(counts - 400).max() < 100
    assert parameters["shift_y"].abs().max() < 20
    assert 25 < parameters["shift_x"].abs().max() < 30


def test_the_preview_knows_them():
    assert {"SoftPatch", "Rotation"} <= set(available_augmentations())


@pytest.mark.parametrize(
    ("build", "named"),
    [
        (lambda: SoftPatch("cut"), "kind"),
        (lambda: SoftPatch(area=0.0), "area"),
        (lambda: SoftPatch(aspect=-1.0), "aspect"),
        (lambda: SoftPatch(angle=math.inf), "angle"),
        (lambda: SoftPatch("cutout", value=2.0), "value"),
        (lambda: SoftPatch("cutpaste", jitter=0.6), "jitter"),
        (lambda: Rotation(math.nan), "angle"),
        (lambda: Rotation(shift=-1.0), "shift"),
        (lambda: Rotation(padding="zeros"), "padding"),
    ],
)
def test_bad_arguments_are_named(build, named):
    with pytest.raises(ValueError, match=named):
        build()
