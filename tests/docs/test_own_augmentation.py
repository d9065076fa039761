# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The augmentation that docs/own-augmentation.md builds does what the page says of all augmentations."""

import doctest
import importlib.util
from pathlib import Path

import pytest
import torch

from anomalib_ssl.augmentations import Augmentation
from anomalib_ssl.plain_data import from_mapping, to_mapping

FILE = Path(__file__).parents[2] / "docs/examples/cutout/augmentation.py"


@pytest.fixture(scope="module")
def page():
    """The module alone: its package would register a model."""
    specification = importlib.util.spec_from_file_location("own_augmentation", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def drawn(augmentation, images):
    return augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))


def test_its_example_runs(page):
    assert doctest.testmod(page, extraglobs={"torch": torch}).failed == 0


def test_it_replays_and_writes_where_its_masks_are(page):
    images = torch.rand(6, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    augmentation = page.Cutout(side=(0.1, 0.5))
    assert isinstance(augmentation, Augmentation)
    parameters = drawn(augmentation, images)
    cut, masks = augmentation.apply(images, parameters)
    assert torch.equal(masks.sum(dim=(1, 2, 3)), parameters["height"] * parameters["width"])
    grey = parameters["grey"].view(-1, 1, 1, 1)
    assert torch.equal(cut, torch.where(masks, grey, images))
    assert torch.equal(augmentation.apply(images, parameters)[0], cut)
    assert parameters["grey"].unique().numel() == 6


def test_bytes_give_what_floats_give(page):
    images = torch.randint(0, 256, (6, 3, 40, 56), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    parameters = drawn(page.Cutout(), images)
    cut, masks = page.Cutout().apply(images, parameters)
    expected, expected_masks = page.Cutout().apply(images / 255, parameters)
    assert cut.dtype == torch.uint8
    assert torch.equal(masks, expected_masks)
    assert (cut - expected * 255).abs().max() <= 0.5001


def test_it_is_an_argument(page):
    augmentation = from_mapping(page.Cutout, {"side": [0.2, 0.3]}, "rectangle")
    assert augmentation == page.Cutout(side=(0.2, 0.3)) == page.Cutout(**to_mapping(augmentation))
    with pytest.raises(ValueError, match="rectangle: side must be an ordered pair"):
        from_mapping(page.Cutout, {"side": [0.3, 0.2]}, "rectangle")


def test_the_page_shows_this_file():
    page = FILE.parents[2] / "own-augmentation.md"
    assert "{literalinclude} examples/cutout/augmentation.py" in page.read_text()
