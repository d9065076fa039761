# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The labelled views of the CutPaste pretext task."""

from dataclasses import replace

import pytest
import torch

from anomalib_ssl.augmentations import BlendedPatch, ColorJitter, CutPaste, CutPasteScar, RandomCrop, RandomShift
from anomalib_ssl.models.cutpaste.views import VARIANTS, CutPasteViews


def make_views(variant, *, shift=0, jitter=0.0):
    return CutPasteViews(
        variant,
        CutPaste(jitter=0.0),
        CutPasteScar(jitter=0.0, reference_size=None),
        RandomShift(shift, reference_size=None),
        ColorJitter(*[jitter] * 4),
    )


def rand_images(num=8):
    return torch.rand(num, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_and_labels(variant):
    images = rand_images()
    task = make_views(variant)
    views, labels = task(images)
    classes = {"3way": 3, "4way": 4}.get(variant, 2)
    assert task.num_classes == classes
    assert views.shape == (classes * 8, 3, 48, 48)
    assert labels.tolist() == [label for label in range(classes) for _ in range(8)]
    # Without shift and jitter the base view is the image, and a paste of any kind changes only a part of it.
    assert torch.equal(views[:8], images)
    for pasted in views[8:].split(8):
        share = (pasted != images).any(dim=1).float().mean(dim=(1, 2))
        assert (share > 0).all()
        assert (share < 0.5).all() or variant in {"blended", "4way"}


def test_blended_patches_are_the_last_class_and_come_from_other_images():
    colours = torch.linspace(0.1, 0.8, 8).view(8, 1, 1, 1).expand(8, 3, 48, 48)
    task = replace(make_views("4way"), blended=BlendedPatch(blend="hard", patches=1))
    views, labels = task(colours, torch.Generator().manual_seed(0))
    plain = views[labels < 3].flatten(1)
    assert (plain.amax(dim=1) - plain.amin(dim=1)).max() < 1e-5
    for own, view in zip(colours, views[labels == 3], strict=True):
        assert len(view.mul(1e5).round().unique()) == 2
        assert (view - own[:, :1, :1]).abs().amax() > 0.05


def test_patch_is_class_one_and_scar_class_two():
    images = rand_images(64)
    views, _ = make_views("3way")(images)
    share = [(view != images).any(dim=1).float().mean() for view in views[64:].split(64)]
    # 8.5 % of the area on average against at most 16 x 25 of 48 x 48 pixels, 7 % on average.
    assert share[0] > share[1]
    largest = (views[128:] != images).any(dim=1).sum(dim=(1, 2)).max()
    assert largest <= 16 * 25 + 16 + 25


def test_union_mixes_both_kinds():
    images = rand_images(200)
    generator = torch.Generator().manual_seed(0)
    union = make_views("union")(images, generator)[0][200:]
    generator.manual_seed(0)
    _, patch, scar = make_views("3way")(images, generator)[0].split(200)
    from_patch = (union == patch).flatten(1).all(dim=1)
    from_scar = (union == scar).flatten(1).all(dim=1)
    assert (from_patch ^ from_scar).all()
    assert 70 < from_patch.sum() < 130


def test_all_views_of_an_image_share_the_base():
    images = rand_images()
    views, _ = make_views("3way", shift=8, jitter=0.3)(images, torch.Generator().manual_seed(0))
    base, *pasted = views.split(8)
    assert not torch.equal(base, images)
    for view in pasted:
        # All but the patch equals the base view bit for bit.
        assert ((view != base).any(dim=1).float().mean(dim=(1, 2)) < 0.5).all()


def test_views_can_go_to_given_memory():
    images = rand_images()
    task = make_views("3way", shift=8, jitter=0.3)
    expected, _ = task(images, torch.Generator().manual_seed(0))
    out = torch.full_like(expected, 7.0)
    views, _ = task(images, torch.Generator().manual_seed(0), out=out)
    assert views.data_ptr() == out.data_ptr()
    assert torch.equal(out, expected)
    for wrong in (torch.empty(8, 3, 48, 48), torch.empty(24, 3, 48, 48, dtype=torch.float64)):
        with pytest.raises(ValueError, match="out"):
            task(images, out=wrong)


def cropping_views(variant="3way", *, size=24, scar=None, jitter=0.0):
    return CutPasteViews(
        variant,
        CutPaste(jitter=0.0),
        scar or CutPasteScar((2, 4), (5, 8), jitter=0.0, reference_size=None),
        RandomShift(8),
        ColorJitter(*[jitter] * 4),
        RandomCrop(size),
    )


def unique_images(num=16, side=48):
    """Images whose every pixel has a value of its own, so that its place can be read off it."""
    pixels = torch.arange(num * side * side, dtype=torch.float64).view(num, 1, side, side) / (num * side * side)
    return pixels.expand(num, 3, side, side).contiguous()


@pytest.mark.parametrize("variant", VARIANTS)
def test_crops_come_before_pastes(variant):
    images = unique_images()
    views, labels = cropping_views(variant)(images, torch.Generator().manual_seed(0))
    classes = {"3way": 3, "4way": 4}.get(variant, 2)
    assert views.shape == (classes * 16, 3, 24, 24)
    assert labels.tolist() == [label for label in range(classes) for _ in range(16)]
    base, *pasted = views.split(16)
    tops = []
    for crop, image in zip(base, images, strict=True):
        top, left = divmod(round(float((crop[0, 0, 0] - image[0, 0, 0]) * images[:, 0].numel())), 48)
        assert torch.equal(crop, image[:, top : top + 24, left : left + 24])
        tops.append(top)
    assert len(set(tops)) > 3
    for view in pasted:
        changed = (view != base).any(dim=1)
        # Every image has its paste, the whole of it inside the crop: never more than a part of it.
        assert changed.flatten(1).any(dim=1).all()
        assert (changed.float().mean(dim=(1, 2)) < 0.5).all()


def test_patches_are_taken_from_the_crop_and_lie_wholly_inside_it():
    images = unique_images(200)
    views, _ = cropping_views("normal")(images, torch.Generator().manual_seed(0))
    changes = (views[200:] != views[:200])[:, 0]
    # A patch that is put back where it was cut changes nothing.
    some = changes.flatten(1).any(dim=1)
    assert some.sum() >= 190
    for base, pasted, changed in zip(views[:200][some], views[200:][some], changes[some], strict=True):
        assert torch.isin(pasted[0][changed], base[0]).all()
        rows, cols = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        height, width = (int(ends.max() - ends.min()) + 1 for ends in (rows, cols))
        # A rectangle of the share of the crop's area that was asked for, not cut off at the border; all of it changed,
        # for no pixel has the value of another.
        assert int(changed.sum()) == height * width
        assert 0.02 * 24 * 24 * 0.7 <= height * width <= 0.15 * 24 * 24 * 1.3


@pytest.mark.parametrize("crop", [32, 64])
@pytest.mark.parametrize("side", [64, 128])
def test_scars_have_the_size_that_they_have_in_the_whole_image(side, crop):
    # 4 x 12 pixels of a reference image of 64: twice these in an image of 128, whatever is cropped.
    scar = CutPasteScar((4, 4), (12, 12), angle=0.0, jitter=0.0, reference_size=64)
    images = torch.rand(50, 3, side, side, generator=torch.Generator().manual_seed(0))
    views, _ = cropping_views("scar", size=crop, scar=scar)(images, torch.Generator().manual_seed(1))
    base, pasted = views.split(50)
    area = (base != pasted).any(dim=1).sum(dim=(1, 2)).float()
    scale = side // 64
    # All that is changed but where the strip was put back on itself.
    assert area.max() == 4 * 12 * scale**2
    assert area.median() == 4 * 12 * scale**2


def test_crops_are_jittered_but_not_shifted():
    images = unique_images().float()
    task = cropping_views(jitter=0.3)
    base, *pasted = task(images, torch.Generator().manual_seed(0))[0].split(16)
    plain = cropping_views()(images, torch.Generator().manual_seed(0))[0][:16]
    assert not torch.allclose(base, plain)
    for view in pasted:
        assert ((view != base).any(dim=1).float().mean(dim=(1, 2)) < 0.5).all()


def test_bytes_are_cropped_to_given_memory():
    images = (torch.rand(4, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 256).to(torch.uint8)
    out = torch.empty(12, 3, 24, 24, dtype=torch.uint8)
    views, _ = cropping_views()(images, torch.Generator().manual_seed(0), out=out)
    assert views.data_ptr() == out.data_ptr()
    assert torch.equal(views, cropping_views()(images, torch.Generator().manual_seed(0))[0])
    with pytest.raises(ValueError, match="out"):
        cropping_views()(images, out=torch.empty(12, 3, 48, 48, dtype=torch.uint8))


@pytest.mark.parametrize(("size", "named"), [(49, "size"), (8, "smaller than the largest scar")])
def test_crops_that_do_not_fit_are_refused(size, named):
    with pytest.raises(ValueError, match=named):
        cropping_views(size=size)(unique_images(2))


def test_unknown_variant_is_named():
    with pytest.raises(ValueError, match=r"variant.*'5way'"):
        make_views("5way")
