# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The labelled views of the CutPaste pretext task."""

import pytest
import torch

from anomalib_ssl.augmentations import ColorJitter, CutPaste, CutPasteScar, RandomShift
from anomalib_ssl.models.cutpaste.views import VARIANTS, CutPasteViews


def make_views(variant, *, shift=0, jitter=0.0):
    return CutPasteViews(
        variant, CutPaste(jitter=0.0), CutPasteScar(jitter=0.0), RandomShift(shift), ColorJitter(*[jitter] * 4)
    )


def rand_images(num=8):
    return torch.rand(num, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("variant", VARIANTS)
def test_views_and_labels(variant):
    images = rand_images()
    task = make_views(variant)
    views, labels = task(images)
    classes = 3 if variant == "3way" else 2
    assert task.num_classes == classes
    assert views.shape == (classes * 8, 3, 48, 48)
    assert labels.tolist() == [label for label in range(classes) for _ in range(8)]
    # Without shift and jitter the base view is the image, and a paste of any kind changes only a part of it.
    assert torch.equal(views[:8], images)
    for pasted in views[8:].split(8):
        share = (pasted != images).any(dim=1).float().mean(dim=(1, 2))
        assert (share > 0).all()
        assert (share < 0.5).all()


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


def test_unknown_variant_is_named():
    with pytest.raises(ValueError, match=r"variant.*'4way'"):
        make_views("4way")
