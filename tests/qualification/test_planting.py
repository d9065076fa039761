# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Planted defects: size, contrast and place are what was asked for, and the same each time."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from anomalib_ssl.qualification.families import FAMILIES
from anomalib_ssl.qualification.planting import Defect, default_sizes, grid, plant

SIZES, CONTRASTS = (6.0, 14.0, 30.0), (0.05, 0.15)


def pictures(count=3, side=96):
    """Smooth blobs with fine texture: something to paste, and something to miss."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(30, 220, (12, 12, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(int)
        pixels = (pixels + rng.integers(-8, 9, pixels.shape)).clip(0, 255)
        found.append(torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1).contiguous())
    return found


@pytest.fixture(scope="module")
def planted():
    images = pictures()
    defects = grid(list(FAMILIES), SIZES, CONTRASTS, 4, 96)
    return images, defects, list(plant(images, defects, seed=1))


def extent(mask):
    """Largest distance between two pixels of a mask, with their own width."""
    points = mask.nonzero().float()
    return float(torch.cdist(points, points).max()) + 1


def test_almost_everything_can_be_planted(planted):
    _, defects, done = planted
    assert len(defects) == len(done) == len(FAMILIES) * 3 * 2 * 4
    for family in FAMILIES:
        share = np.mean([one is not None for defect, one in zip(defects, done, strict=True) if defect.family == family])
        assert share > 0.7, family


def test_only_the_mask_is_changed_and_by_the_contrast(planted):
    images, defects, done = planted
    for defect, one in zip(defects, done, strict=True):
        if one is None:
            continue
        assert one.defect == defect
        source = images[one.source]
        assert torch.equal(torch.where(one.mask, source, one.image), source)
        change = (one.image.double() - source.double()).abs()[:, one.mask].mean() / 255
        assert float(change) == pytest.approx(one.contrast, abs=1e-6)
        assert one.contrast == pytest.approx(defect.contrast, rel=0.1)


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_those_asked_for(planted, family):
    _, _, done = planted
    for size in SIZES:
        extents = [extent(one.mask) for one in done if one and (one.defect.family, one.defect.size) == (family, size)]
        # A rectangle's diagonal is longer than its side, a pixel more or less is rounding.
        assert size - 1.5 <= np.mean(extents) <= 1.3 * size + 1.5
        assert max(extents) <= 1.7 * size + 2


def test_a_defect_depends_on_itself_and_the_seed_alone(planted):
    images, defects, done = planted
    chosen = [index for index, one in enumerate(done) if one is not None][::7]
    for index, again in zip(chosen, plant(images, [defects[index] for index in chosen], seed=1), strict=True):
        assert torch.equal(again.image, done[index].image)
        assert torch.equal(again.mask, done[index].mask)
    state = torch.get_rng_state()
    [other] = plant(images, [defects[chosen[0]]], seed=2)
    assert not torch.equal(other.image, done[chosen[0]].image)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_are_taken_in_turn(planted):
    images, _, done = planted
    counts = np.bincount([one.source for one in done if one], minlength=len(images))
    assert counts.min() > 0.7 * counts.max()


def test_a_single_image_of_any_shape_is_enough():
    [image] = pictures(1, 128)
    image = image[:, :70]
    done = list(plant([image], grid(list(FAMILIES), [20.0], [0.08], 2, 70)))
    assert sum(one is not None for one in done) >= 10
    assert all(one.image.shape == (3, 70, 128) for one in done if one)


def test_what_is_not_there_cannot_be_missing():
    flat = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    assert list(plant([flat], [Defect("missing part", 12, 0.1, 0)])) == [None]
    assert next(iter(plant([flat], [Defect("stain", 12, 0.1, 0)]))) is not None


@pytest.mark.parametrize("side", [64, 256, 1024, 4000])
def test_default_sizes_fit(side):
    sizes = default_sizes(side)
    assert len(sizes) == 6
    assert min(sizes) >= 3
    assert max(sizes) <= side / 2
    assert list(sizes) == sorted(set(sizes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [40.0]}, "sizes must be at most half the shorter side of the images, which is 64 pixels"),
        ({"sizes": [1.0]}, "sizes must lie in [2, inf], got 1.0"),
        ({"sizes": []}, "sizes must be one or more different numbers"),
        ({"sizes": [5.0, 5.0]}, "sizes must be one or more different numbers"),
        ({"contrasts": [1.5]}, "contrasts must lie in [0.01, 0.9], got 1.5"),
        ({"families": ["dent"]}, "families must be a list of 1 or more of"),
        ({"repeats": 0}, "repeats must lie in [1, inf], got 0"),
    ],
)
def test_bad_grids_are_refused(arguments, message):
    good = {"families": ["patch"], "sizes": [5.0], "contrasts": [0.1], "repeats": 1, "side": 64}
    with pytest.raises(ValueError, match=re.escape(message)):
        grid(**{**good, **arguments})


def test_no_size_has_images_of_its_own():
    images = pictures(6, 32)
    defects = grid(["patch"], [4.0, 5.0, 6.0], [0.1], 8, 32)
    sources = {}
    for one in plant(images, defects):
        sources.setdefault(one.defect.size, set()).add(one.source)
    assert all(len(found) >= 4 for found in sources.values())
