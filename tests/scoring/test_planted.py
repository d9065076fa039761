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
def test_masks_are_where_pixels_changed_visibly(size):
    images = rand(40, *size)
    shares = {}
    for name, (changed, masks) in planted([images]).items():
        changes = (changed - images).abs().amax(dim=1, keepdim=True)
        assert changes[masks].min() > 0
        # Around it there is less than a fifth of something else, within [0, 1] like all.
        assert 0 < changes[~masks].max() < 0.2
        assert changes[masks].mean() > 5 * changes[~masks].mean()
        assert changed.min() >= 0
        assert changed.max() <= 1
        # Of a narrow patch blending may leave nothing.
        assert masks.flatten(1).any(dim=1).float().mean() > 0.8
        shares[name] = masks.float().mean()
    assert 0 < shares["small patches"] < shares["large patches"] < 0.15


def test_in_images_lighter_than_1_patches_are_of_them_too():
    for changed, masks in planted([1.2 + 0.2 * rand(32)]).values():
        assert changed[masks.expand_as(changed)].min() > 1.05


def test_patches_have_no_hard_border():
    images = torch.linspace(0, 1, 128).expand(32, 3, 128, 128)
    for changed, _ in planted([images]).values():
        changes = changed - images
        assert changes.abs().max() > 0.5
        assert max(changes.diff(dim=-1).abs().max(), changes.diff(dim=-2).abs().max()) < 0.25


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


def test_black_on_black_is_no_defect():
    found = planted([torch.zeros(4, 3, 32, 32)])
    assert len(found) == len(FAMILIES)
    for changed, masks in found.values():
        assert not changed.any()
        assert not masks.any()


def test_without_images_nothing_is_planted():
    assert planted([]) == {}
