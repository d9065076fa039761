# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Views of DynamicLocalAugmentation: where they lie in the image, and how far they change it."""

import pytest
import torch

from anomalib_ssl.models.dynamic_local_augmentation import views
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def coordinate_images(batch, height, width):
    """Images that tell where they are: red is the row, green the column, as shares of 512 pixels."""
    rows = ((torch.arange(height) + 0.5) / 512).view(1, -1, 1).expand(batch, height, width)
    cols = ((torch.arange(width) + 0.5) / 512).view(1, 1, -1).expand(batch, height, width)
    return torch.stack([rows, cols, torch.zeros_like(rows)], dim=1)


@pytest.mark.parametrize(("size", "expected"), [((64, 64), (56, 56)), ((64, 96), (56, 80))])
def test_views_are_upright_parts_of_the_image(size, expected, monkeypatch):
    monkeypatch.setattr(views, "_recolored", lambda images: images)
    torch.manual_seed(0)
    seen = GlobalViews()(coordinate_images(40, *size))
    assert seen.shape == (40, 3, *expected)
    # Rows and columns of the image go by one by one.
    inner = 512 * seen[..., 4:-4, 4:-4]
    for steps in (inner[:, 0].diff(dim=1), inner[:, 1].diff(dim=2)):
        torch.testing.assert_close(steps, torch.ones_like(steps), atol=1e-3, rtol=0)
    assert float(inner[:, 0].diff(dim=2).abs().max()) < 1e-3
    places = inner[:, :2, 0, 0]
    assert len(places.round().unique(dim=0)) > 10


def test_shifted_views_mirror_the_border(monkeypatch):
    monkeypatch.setattr(views, "_recolored", lambda images: images)
    torch.manual_seed(0)
    # Pixels of an image of 256: four of one of 64.
    seen = (512 * GlobalViews(crop=1.0, shift=16)(coordinate_images(100, 64, 64))[:, 0, :, 0]).floor()
    assert seen[:, 0].max() == 4
    (down, *_) = seen[seen[:, 1] == 3]
    assert down[:6].tolist() == [4, 3, 2, 1, 0, 1]
    assert set(seen[:, 63].tolist()) == {59, 60, 61, 62, 63}


def test_views_change_little():
    images = rand_images(64, 3, 32, 32)
    torch.manual_seed(0)
    seen = GlobalViews(crop=1.0)(images)
    changes = (seen - images).abs().mean(dim=(1, 2, 3))
    assert float(changes.mean()) < 0.06
    # Jitter spares a fifth, blur four fifths.
    assert 2 <= int((changes < 1e-6).sum()) <= 24
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [({"crop": 0.1}, "crop"), ({"shift": -1}, "shift"), ({"shift": 256}, "shift")],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        GlobalViews(**arguments)
