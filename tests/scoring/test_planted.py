# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Defects planted in sound images."""

import pytest
import torch

from anomalib_ssl.scoring.planted import FAMILIES, plant


def rand(count, *size):
    return torch.rand(count, 3, *(size or (32, 32)), generator=torch.Generator().manual_seed(0))


def planted(batches):
    """Changed images and masks by family."""
    families = {}
    for name, changed, masks in plant(batches):
        families.setdefault(name, []).append((changed, masks))
    return {name: [torch.cat(each) for each in zip(*parts, strict=True)] for name, parts in families.items()}


@pytest.mark.parametrize(
    ("count", "batch", "expected"), [(1, 1, 32), (12, 5, 36), (31, 8, 62), (40, 16, 40), (64, 32, 64), (100, 16, 64)]
)
def test_at_least_32_and_about_64_at_most_are_planted_of_each_family(count, batch, expected):
    found = planted(rand(count).split(batch))
    assert list(found) == list(FAMILIES)
    assert {len(changed) for changed, _ in found.values()} == {expected}


@pytest.mark.parametrize("size", [(32, 32), (48, 80)])
def test_masks_are_where_pixels_changed(size):
    images = rand(40, *size)
    shares = {}
    for name, (changed, masks) in planted([images]).items():
        assert torch.equal(masks, (changed != images).any(dim=1, keepdim=True))
        assert masks.flatten(1).any(dim=1).all()
        assert changed.min() >= 0
        assert changed.max() <= 1
        shares[name] = masks.float().mean()
    assert shares["small patches"] < shares["large patches"] < 0.2


def test_defects_are_the_same_each_time_and_leave_random_numbers_alone():
    images = rand(5)
    state = torch.get_rng_state()
    first, second = planted([images]), planted([images])
    assert torch.equal(torch.get_rng_state(), state)
    for name, (changed, masks) in first.items():
        assert torch.equal(changed, second[name][0])
        assert torch.equal(masks, second[name][1])
        # The same image again gets another defect.
        assert not torch.equal(changed[:5], changed[5:10])


def test_families_differ_from_each_other():
    found = [masks for _, masks in planted([rand(32)]).values()]
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_black_on_black_is_no_defect():
    found = planted([torch.zeros(4, 3, 32, 32)])
    assert len(found) == len(FAMILIES)
    for changed, masks in found.values():
        assert not changed.any()
        assert not masks.any()


def test_without_images_nothing_is_planted():
    assert planted([]) == {}
