# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Writes photographed specimens as a data set in the layout of MVTec AD."""

import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from anomalib_ssl.checks import check_choices, check_output, check_whole
from anomalib_ssl.demo.specimen import photograph
from anomalib_ssl.demo.surface import REFERENCE
from anomalib_ssl.demo.surfaces import SURFACES

MANIFEST = "demo.json"
"""File in every category that says how its images were made; written last, so that it marks a complete category."""

VERSION = 3
"""Version of the drawing code; raised whenever the same arguments give other images."""


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
        image_size: Side of the images in pixels, 32 to 2048.
        seed: Seed of everything in the images, not negative.

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: If an argument is out of its range, or ``root`` cannot be written.
        FileExistsError: If a category is there already but was made otherwise, or not completed.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> root = write_dataset("./datasets/demo", surfaces=["wood"])  # doctest: +SKIP
        >>> datamodule = MVTecAD(root=root, category="wood")  # doctest: +SKIP
    """
    root, names = Path(root), list(SURFACES) if surfaces is None else surfaces
    check_choices("surfaces", names, SURFACES)
    counts = {"num_train": num_train, "num_test_good": num_test_good, "num_test_per_defect": num_test_per_defect}
    for name, count in counts.items():
        check_whole(name, count, low=2 if name == "num_train" else 1)
    check_whole("image_size", image_size, low=32, high=2048)
    check_whole("seed", seed, low=0)
    check_output("root", root)
    manifest = {"version": VERSION, **counts, "image_size": image_size, "seed": seed}
    for name in names:
        path = root / name / MANIFEST
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        if path.parent.exists() and found != manifest:
            how = f"made with {found}, not with {manifest}" if found else f"not complete (no {MANIFEST})"
            msg = f"root='{root}' already holds a '{name}' that was {how}; remove it or choose another folder"
            raise FileExistsError(msg)
    for category in (root / name for name in names if not (root / name).exists()):
        parts = [("train", "good", num_train), ("test", "good", num_test_good)]
        parts += [("test", defect, num_test_per_defect) for defect in SURFACES[category.name].defects]
        for split, label, count in parts:
            images, masks = category / split / label, category / "ground_truth" / label
            images.mkdir(parents=True)
            for number in range(count):
                defect = None if label == "good" else label
                specimen = photograph(category.name, defect, (seed, ("train", "test").index(split), number), image_size)
                Image.fromarray(specimen.image).save(images / f"{number:03}.png")
                if defect:
                    masks.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(specimen.mask).save(masks / f"{number:03}_mask.png")
        (category / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return root
