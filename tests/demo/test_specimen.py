# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Specimens and their sound twins, for every defect of every surface."""

import numpy as np
import pytest

from anomalib_ssl.demo import SURFACES, Specimen, photograph
from anomalib_ssl.demo.specimen import CHANGE, MIN_AREA, MIN_CONTRAST

DEFECTS = [(name, defect) for name, surface in SURFACES.items() for defect in surface.defects]


@pytest.fixture(scope="module", params=DEFECTS, ids="-".join)
def specimen(request: pytest.FixtureRequest) -> Specimen:
    """One damaged specimen of each kind."""
    return photograph(*request.param, seed=(0, 0), image_size=128)


def difference(specimen: Specimen) -> np.ndarray:
    """Greatest difference over the channels between a specimen and its twin, in levels of 255, (H, W)."""
    return np.abs(specimen.image.astype(int) - specimen.twin).max(axis=2)


def test_mask_is_where_the_twins_differ(specimen: Specimen) -> None:
    changed, inside = difference(specimen), specimen.mask > 0
    assert changed[~inside].max() < CHANGE
    # The rest is what closing the gaps of the region has added.
    assert (changed[inside] >= CHANGE).mean() > 0.4


def test_defect_is_visible_but_small(specimen: Specimen) -> None:
    changed = difference(specimen)
    area = (specimen.mask > 0).mean()
    assert MIN_AREA <= area < 0.15
    assert changed[changed >= CHANGE].mean() >= MIN_CONTRAST


@pytest.mark.parametrize("name", SURFACES)
def test_sound_specimens_vary(name: str) -> None:
    first, second = (photograph(name, None, seed=(0, number), image_size=64) for number in range(2))
    assert not first.mask.any()
    assert np.array_equal(first.image, first.twin)
    assert not np.array_equal(first.image, second.image)
    # The same surface under the same lamp: what differs is the specimen, not the product.
    assert np.abs(first.image.mean((0, 1)) - second.image.mean((0, 1))).max() < 25


@pytest.mark.parametrize("name", SURFACES)
def test_neither_black_nor_burnt_out(name: str) -> None:
    image = photograph(name, None, seed=(3, 1)).image
    assert 40 < image.mean() < 220
    assert (image == 255).mean() < 0.02
    assert image.std() > 8


def test_same_seed_same_pixels() -> None:
    first, second = (photograph("fabric", "cut", seed=(5, 7), image_size=64) for _ in range(2))
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize("image_size", [32, 100, 300])
def test_any_image_size(image_size: int) -> None:
    specimen = photograph("metal", "rust", seed=(0, 0), image_size=image_size)
    assert specimen.image.shape == (image_size, image_size, 3)
    assert specimen.mask.shape == (image_size, image_size)
    assert specimen.image.dtype == specimen.mask.dtype == np.uint8


def test_resolution_does_not_change_the_scene() -> None:
    small, large = (photograph("wood", "hole", seed=(0, 0), image_size=size) for size in (128, 256))
    shrunk = large.image.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 6


def test_unknown_names_are_named() -> None:
    with pytest.raises(ValueError, match=r"surface must be one of .*wood.*'cheese'"):
        photograph("cheese", None, seed=(0,))
    with pytest.raises(ValueError, match=r"defect of metal must be one of .*scratch.*'knot'"):
        photograph("metal", "knot", seed=(0,))
