# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is found in images of plates, turned and shifted objects, and surfaces."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.blended_patch import object_masks
from anomalib_ssl.models.nsa.traits import MIDPOINTS, MOST_IF_UNALIGNED, image_traits

SIDE = 64


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def pattern(side=SIDE, seed=5):
    """One image of blocks, 8 in a row, of grey levels in [0, 0.5]."""
    return 0.5 * F.interpolate(rand(1, 3, 8, 8, seed=seed), size=side)


def plates(count=12, side=SIDE, noise=0.02):
    """A patterned plate, at one place before a bright background."""
    images = torch.full((count, 3, side, side), 0.9)
    inner = slice(side // 4, 3 * side // 4)
    images[..., inner, inner] = pattern(side)[..., inner, inner]
    return images + noise * (rand(count, 3, side, side) - 0.5)


def turned(count=12):
    """A patterned bar, turned otherwise in every image, before a dark background."""
    bar = torch.full((1, 3, SIDE, SIDE), -1.0)
    bar[..., 28:36, 12:52] = pattern()[..., 28:36, 12:52] - 0.6
    angle = torch.arange(count) * (2 * math.pi / count)
    cos, sin = angle.cos(), angle.sin()
    matrix = torch.stack([torch.stack([cos, -sin, 0 * cos], 1), torch.stack([sin, cos, 0 * cos], 1)], 1)
    grid = F.affine_grid(matrix, [count, 3, SIDE, SIDE], align_corners=False)
    return 1.1 + F.grid_sample(bar.expand(count, -1, -1, -1), grid, padding_mode="border", align_corners=False)


def shifted(count=12):
    """The plate at another place in every image."""
    images = plates(count)
    shifts = torch.randint(-10, 11, (count, 2), generator=torch.Generator().manual_seed(1)).tolist()
    return torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)])


def noise(count=12, side=SIDE, contrast=0.5):
    return 0.3 + contrast * F.interpolate(rand(count, 3, 32, 32), size=side)


def scene(count=12):
    """The pattern everywhere, alike in every image."""
    return pattern() + 0.1 * rand(count, 3, SIDE, SIDE)


def assert_close(found, expected):
    assert (found.background is None) == (expected.background is None)
    found, expected = dataclasses.asdict(found), dataclasses.asdict(expected)
    assert {k: v or 0 for k, v in found.items()} == pytest.approx({k: v or 0 for k, v in expected.items()}, rel=1e-4)


def test_a_plate_before_a_plain_background():
    images = plates()
    traits = image_traits([images])
    assert traits.background == pytest.approx(0.9, abs=0.01)
    assert traits.aligned
    assert not traits.texture
    masks = object_masks(images, traits.background, traits.threshold)
    plate = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    plate[16:48, 16:48] = True
    assert masks[..., plate].float().mean() > 0.95
    assert masks[..., ~plate].float().mean() < 0.05


@pytest.mark.parametrize("make", [turned, shifted])
def test_objects_that_do_not_lie_alike(make):
    traits = image_traits([make()])
    assert traits.background is not None
    assert not traits.aligned
    assert not traits.texture
    assert traits.midpoint <= MOST_IF_UNALIGNED


def test_sides_are_those_of_the_object():
    bars = torch.full((12, 3, SIDE, SIDE), 0.9)
    bars[..., 24:40, 12:52] = pattern()[..., 24:40, 12:52]
    traits = image_traits([bars + 0.02 * (rand(12, 3, SIDE, SIDE) - 0.5)])
    assert traits.aligned
    assert (traits.height, traits.width) == pytest.approx((16 / SIDE, 40 / SIDE), abs=0.01)
    # An image that shows none is not averaged in.
    bars[3] = 0.9
    assert image_traits([bars]).height == pytest.approx(16 / SIDE, abs=0.01)
    # Of objects that lie anyhow the narrow side, here eight pixels, unless it is known that they lie alike.
    traits = image_traits([turned()])
    assert traits.height == traits.width == pytest.approx(8 / SIDE, abs=0.03)
    known = image_traits([turned()], aligned=True)
    assert known.aligned
    assert known.height > 2 * traits.height
    # Where there is no object, patches may be as large as the authors' largest.
    assert (image_traits([scene()]).height, image_traits([noise()]).width) == (0.8, 0.8)


@pytest.mark.parametrize("contrast", [0.5, 0.05])
def test_a_surface_has_neither_background_nor_places(contrast):
    traits = image_traits([noise(contrast=contrast)])
    assert traits.background is None
    assert traits.texture
    assert not traits.aligned


def test_uneven_light_does_not_make_places_of_a_surface():
    light = torch.linspace(0.7, 1.3, SIDE)
    traits = image_traits([noise(contrast=0.2) * light])
    assert traits.background is None
    assert traits.texture
    assert not traits.aligned


def test_a_scene_that_fills_the_image_is_no_texture():
    traits = image_traits([scene()])
    assert traits.background is None
    assert traits.aligned
    assert not traits.texture


def test_a_background_that_varies_is_none():
    images = plates()
    images[..., :16, :] = pattern()[..., :16, :]
    images[..., 48:, :] = pattern()[..., 48:, :]
    assert image_traits([images]).background is None


def test_the_midpoint_is_twice_the_usual_difference():
    # Differences of two uniform numbers from a range of length 1 have the median 1 - sqrt(1/2).
    usual = 255 * 0.2 * (1 - math.sqrt(0.5))
    images = pattern() + 0.2 * rand(40, 1, SIDE, SIDE)
    traits = image_traits([images])
    assert traits.midpoint == pytest.approx(min(2 * usual, MIDPOINTS[1]), rel=0.05)
    halved = image_traits([pattern() + 0.1 * rand(40, 1, SIDE, SIDE)])
    assert halved.midpoint == pytest.approx(usual, rel=0.05)
    assert halved.steepness * halved.midpoint == pytest.approx(traits.steepness * traits.midpoint)


def test_the_midpoint_is_that_of_the_object():
    images = plates(noise=0.0)
    images[..., 16:48, 16:48] += 0.08 * rand(12, 1, 32, 32)
    traits = image_traits([images])
    assert traits.midpoint == pytest.approx(2 * 255 * 0.08 * (1 - math.sqrt(0.5)), rel=0.1)


@pytest.mark.parametrize("make", [plates, noise])
def test_resolution_hardly_matters(make):
    small, large = image_traits([make(side=64)]), image_traits([make(side=256)])
    assert (small.texture, small.aligned) == (large.texture, large.aligned)
    assert (small.background is None) == (large.background is None)
    assert small.threshold == pytest.approx(large.threshold, rel=0.05)


@pytest.mark.parametrize("make", [plates, turned, shifted, noise, scene])
def test_batches_data_types_and_repetition_do_not_matter(make):
    images = make().clamp(0, 1).mul(255).round()
    expected = image_traits([images / 255])
    assert image_traits([images / 255]) == expected
    assert image_traits((images / 255).split(5)) == expected
    assert_close(image_traits(images.byte().split(4)), expected)


def test_grey_images_of_one_channel_and_of_three_are_the_same():
    images = plates().mean(dim=1, keepdim=True)
    assert_close(image_traits([images.expand(-1, 3, -1, -1)]), image_traits([images]))


def test_constant_images_give_usable_numbers():
    for level in (0.0, 0.3, 1.0):
        traits = image_traits([torch.full((4, 3, SIDE, SIDE), level)])
        assert traits.background is None
        assert not traits.aligned
        assert traits.texture
        assert 0 < traits.threshold < 1
        assert traits.midpoint == MIDPOINTS[0]


@pytest.mark.parametrize("make", [plates, shifted, noise, scene])
def test_two_images_are_enough(make):
    many, two = image_traits([make(12)]), image_traits([make(2)])
    assert (two.texture, two.aligned) == (many.texture, many.aligned)
    assert (two.background is None) == (many.background is None)


def test_many_images_are_thinned_evenly():
    # The last quarter is of another brightness: neither the first images alone nor the last ones.
    images = torch.cat([plates(225, side=16), 0.7 * plates(75, side=16)])
    batches = iter(images.split(7))
    traits = image_traits(batches)
    assert next(batches, None) is None
    assert traits == image_traits([images[::4]])
    assert image_traits(images.split(1)) == traits


def test_sides_may_differ_and_be_small():
    images = plates(6, side=128)
    traits = image_traits([images[..., ::2], F.interpolate(images, size=(40, 100), mode="area")])
    assert traits.background == pytest.approx(0.9, abs=0.02)
    assert not traits.texture


def test_what_is_no_set_of_images_is_an_error():
    with pytest.raises(ValueError, match="two images at least, to be compared, got 0"):
        image_traits([])
    with pytest.raises(ValueError, match="two images at least, to be compared, got 1"):
        image_traits([plates(1)])
    with pytest.raises(ValueError, match=r"images must have the shape \(B, C, H, W\)"):
        image_traits([plates(2)[0]])
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got values from -2"):
        image_traits([torch.full((2, 3, SIDE, SIDE), -2.0)])
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got values from nan"):
        image_traits([torch.full((2, 3, SIDE, SIDE), math.nan)])


@pytest.mark.gpu
def test_the_device_does_not_matter():
    images = plates()
    assert image_traits([images.cuda()]) == image_traits([images])
