# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Draws the gallery of augmentations when the pages are built."""

import tempfile
from pathlib import Path

from PIL import Image

from anomalib_ssl.commands.preview import available_augmentations, preview
from anomalib_ssl.demo import write_dataset

SURFACES = ("fabric", "leather", "metal", "tile", "wood")


def write(folder: Path) -> None:
    """Write a picture of each augmentation and a page of them, unless they are there already.

    Args:
        folder: Folder for the pictures and for ``pictures.md``.
    """
    page = folder / "pictures.md"
    if page.is_file():
        return
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        root = write_dataset(temporary, num_train=3, num_test_good=1, num_test_per_defect=1, image_size=128)
        sections = [_section(name, root, folder, number) for number, name in enumerate(available_augmentations())]
    page.write_text("\n".join(sections), encoding="utf-8")


def _section(name: str, root: Path, folder: Path, number: int) -> str:
    surface = SURFACES[number % len(SURFACES)]
    picture = preview(root, surface, name, rows=2, image_size=128, output=folder / f"{name}.png")
    Image.open(picture).convert("RGB").quantize(256).save(picture, optimize=True)
    # The first paragraph of its docstring.
    words = " ".join((available_augmentations()[name].__doc__ or "").split("\n\n", maxsplit=1)[0].split())
    link = f"{{py:class}}`~{_shown(name)}`"
    return f"## {name}\n\n{words} ({link})\n\n![{name}: images, what it makes of them, and masks]({name}.png)\n"


def _shown(name: str) -> str:
    return f"anomalib_ssl.augmentations.{name}"
