# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Telling deterministic transforms from the rest."""

import pytest
import torch
from torchvision.transforms import v2

from anomalib_ssl.training.images.transforms import compose, runs_on, split_deterministic

RESIZE, CROP, FLIP = v2.Resize((8, 8)), v2.CenterCrop(6), v2.RandomHorizontalFlip()


class RandomResize(v2.Resize):
    """A transform of a user's own, by its name a deterministic one."""


@pytest.mark.parametrize(
    ("transform", "first", "rest"),
    [
        (None, [], []),
        (RESIZE, [RESIZE], []),
        (FLIP, [], [FLIP]),
        (v2.Compose([RESIZE, v2.Compose([CROP, FLIP]), CROP]), [RESIZE, CROP], [FLIP, CROP]),
        (v2.Compose([v2.ToDtype(torch.float32, scale=True), FLIP]), None, [FLIP]),
        (v2.Compose([v2.ToDtype(torch.uint8, scale=True)]), [], None),
        (v2.Compose([RandomResize((8, 8)), CROP]), [], None),
        (v2.RandomApply([RESIZE]), [], None),
    ],
)
def test_split_at_the_first_random_step(transform, first, rest):
    parts = split_deterministic(transform)
    for found, expected in zip(parts, (first, rest), strict=True):
        assert expected is None or found == expected


def test_both_parts_together_are_the_transform():
    transform = v2.Compose([v2.Compose([RESIZE, CROP]), v2.RandomHorizontalFlip(p=1.0), v2.Pad(1)])
    images = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    first, rest = (compose(part) for part in split_deterministic(transform))
    assert torch.equal(rest(first(images)), transform(images))


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (FLIP, True),
        (v2.RandomApply([FLIP]), True),
        (v2.Lambda(lambda image: image), False),
        (v2.RandomChoice([FLIP, v2.Lambda(lambda image: image)]), False),
        (RandomResize((8, 8)), False),
    ],
)
def test_only_torchvision_is_trusted_on_an_accelerator(step, expected):
    assert runs_on(step, torch.device("cuda")) == expected
    assert runs_on(step, torch.device("cpu"))
