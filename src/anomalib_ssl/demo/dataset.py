# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes photographed specimens as a data set in the layout of MVTec AD."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomalib_ssl.demo.shapes import REFERENCE
from anomalib_ssl.demo.specimen import photograph
from anomalib_ssl.demo.surfaces import SURFACES

MANIFEST = "demo.json"
"""File in every category that says how its images were made; written last, so that it marks a complete category."""

VERSION = 1
"""Version of the drawing code; raised whenever the same arguments give other images."""

IMAGE_SIZES = (32, 2048)
"""Least and greatest side of an image, in pixels."""


def write_dataset(
    root: Path | str,
    surfaces: Sequence[str] | None = None,
    num_train: int = 60,
    num_test_good: int = 24,
    num_test_per_defect: int = 8,
    image_size: int = REFERENCE,
    seed: int = 0,
) -> Path:
    """Write a data set in MVTec layout: training images, test images and pixel masks, for each surface a category.

    Every image depends on the seed and its own place in the data set alone: more images, or more surfaces, leave the
    others as they are. A category that is there already, made with the same arguments, is kept.

    Args:
        root: Folder of the data set; it is made where missing.
        surfaces: Names of the surfaces, see ``SURFACES``; all of them by default.
        num_train: Sound images for training, at least 2.
        num_test_good: Sound images for the test, at least 1.
        num_test_per_defect: Test images of each defect, at least 1.
        image_size: Side of the images in pixels, in ``IMAGE_SIZES``.
        seed: Non-negative seed of everything in the images.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: If an argument is out of its range.
        FileExistsError: If a category is there already but was made otherwise, or not completed.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> root = write_dataset("./datasets/demo", surfaces=["wood"])  # doctest: +SKIP
        >>> datamodule = MVTecAD(root=root, category="wood")  # doctest: +SKIP
    """
    root = Path(root)
    names = list(SURFACES) if surfaces is None else [surfaces] if isinstance(surfaces, str) else list(surfaces)
    _check(root, names, num_train, num_test_good, num_test_per_defect, image_size, seed)
    manifest = {
        "version": VERSION,
        "num_train": num_train,
        "num_test_good": num_test_good,
        "num_test_per_defect": num_test_per_defect,
        "image_size": image_size,
        "seed": seed,
    }
    missing = [name for name in names if not _complete(root / name, manifest)]
    for name in missing:
        for split, label, number in _plan(name, num_train, num_test_good, num_test_per_defect):
            defect = None if label == "good" else label
            specimen = photograph(name, defect, (seed, ("train", "test").index(split), number), image_size)
            _save(root / name / split / label / f"{number:03}.png", specimen.image)
            if defect:
                _save(root / name / "ground_truth" / defect / f"{number:03}_mask.png", specimen.mask)
        (root / name / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return root


def _plan(name: str, num_train: int, num_test_good: int, num_test_per_defect: int) -> Iterator[tuple[str, str, int]]:
    """Yield split, label and number of every image of a category."""
    yield from (("train", "good", number) for number in range(num_train))
    yield from (("test", "good", number) for number in range(num_test_good))
    for defect in SURFACES[name].defects:
        yield from (("test", defect, number) for number in range(num_test_per_defect))


def _complete(category: Path, manifest: dict[str, int]) -> bool:
    """Whether a category is there already, made with the same arguments; refuses to mix it with another one."""
    if not category.exists():
        return False
    path = category / MANIFEST
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found == manifest:
        return True
    how = f"was made with {found}, not with {manifest}" if found else f"is not a complete demo category (no {MANIFEST})"
    msg = f"root='{category.parent}' already holds '{category.name}', which {how}; remove it or choose another folder"
    raise FileExistsError(msg)


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    """Write a PNG, and its folder where missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _check(
    root: Path,
    names: list[str],
    num_train: int,
    num_test_good: int,
    num_test_per_defect: int,
    image_size: int,
    seed: int,
) -> None:
    """Refuse arguments out of their range before anything is written."""
    if root.exists() and not root.is_dir():
        msg = f"root='{root}' is a file; give a folder"
        raise ValueError(msg)
    unknown = [name for name in names if name not in SURFACES]
    if unknown or not names:
        msg = f"surfaces={unknown or names} must name one or more of {', '.join(SURFACES)}"
        raise ValueError(msg)
    minima = {
        "num_train": (num_train, 2),
        "num_test_good": (num_test_good, 1),
        "num_test_per_defect": (num_test_per_defect, 1),
        "seed": (seed, 0),
    }
    for argument, (value, minimum) in minima.items():
        if value < minimum:
            msg = f"{argument}={value} must be at least {minimum}"
            raise ValueError(msg)
    if not IMAGE_SIZES[0] <= image_size <= IMAGE_SIZES[1]:
        msg = f"image_size={image_size} must lie between {IMAGE_SIZES[0]} and {IMAGE_SIZES[1]} pixels"
        raise ValueError(msg)
