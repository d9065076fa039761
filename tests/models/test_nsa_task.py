# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What NSA learns: the task for a product, defects and their labels."""

from dataclasses import replace

import pytest
import torch

from anomalib_ssl.augmentations import BlendedPatch, Symmetries
from anomalib_ssl.models.nsa.task import SHIFT, Task, task_of
from anomalib_ssl.models.nsa.traits import Traits

SCREWS = Traits(background=0.8, threshold=0.2, texture=False, aligned=False, steepness=0.5, midpoint=5.0)


def images(count=6, size=64):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)


def test_objects_get_patches_on_the_object():
    task = task_of(SCREWS)
    assert task == Task(Symmetries(rotation=5.0), BlendedPatch(background=0.8, threshold=0.2, shrink=0.5), (0.5, 5.0))
    assert task_of(replace(SCREWS, aligned=True)) == replace(task, symmetries=Symmetries())
    assert task_of(replace(SCREWS, background=None)).patch.background is None
    narrow = replace(SCREWS, height=0.2, width=0.3)
    assert task_of(narrow).patch == replace(task.patch, height=(0.06, 0.2), width=(0.06, 0.3))
    # Whoever does not believe in the object does not believe in its size.
    assert task_of(narrow, {"background": None}).patch == replace(task.patch, background=None)


@pytest.mark.parametrize("aligned", [False, True])
def test_textures_get_mixed_patches_anywhere(aligned):
    task = task_of(replace(SCREWS, texture=True, aligned=aligned))
    patch = BlendedPatch(patches=4, resize=(0.5, 2.0), gradients="mixed", background=None, shrink=0.5)
    assert task == Task(Symmetries(flips=("vertical",)), patch, (0.5, 5.0))


def test_arguments_take_the_place_of_traits():
    given = {"height": [0.1, 0.2], "background": None}
    task = task_of(SCREWS, given, {"flips": ["horizontal"]}, (1 / 3, 7.0))
    assert task.patch == BlendedPatch(height=(0.1, 0.2), threshold=0.2, shrink=0.5)
    assert task.symmetries == Symmetries(flips=("horizontal",), rotation=5.0)
    assert task.label == (1 / 3, 7.0)


@pytest.mark.parametrize("texture", [False, True])
def test_labels_are_zero_outside_of_patches_and_grow_with_the_change(texture):
    torch.manual_seed(0)
    before = images(24)
    task = task_of(replace(SCREWS, texture=texture, background=None, steepness=0.05, midpoint=20.0))
    blended, masks, labels = task.blend(before)
    assert blended.shape == before.shape
    assert masks.shape == labels.shape == (24, 1, 64, 64)
    assert masks.any(dim=(1, 2, 3)).all()
    assert torch.equal(torch.where(masks, before, blended), before)
    assert (labels[~masks] == 0).all()
    assert 0.5 < labels.max() < 1
    change = (blended - before).abs().mean(dim=1, keepdim=True)
    assert labels[change > 0.3].mean() > 2 * labels[masks & (change < 0.05)].mean()


@pytest.mark.parametrize("symmetries", [{}, {"flips": ["vertical"], "rotation": 5}])
def test_targets_and_sources_are_moved_before(symmetries):
    before = images(24)
    task = task_of(replace(SCREWS, aligned=True, background=None), symmetries=symmetries)
    torch.manual_seed(0)
    found = task(before)
    torch.manual_seed(0)
    moved, _ = SHIFT(task.symmetries(before)[0])
    assert not torch.equal(moved, before)
    assert all(torch.equal(one, other) for one, other in zip(found, task.blend(moved), strict=True))
