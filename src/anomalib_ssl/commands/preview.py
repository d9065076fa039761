# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Shows what augmentations make of images: a grid of inputs, results and masks."""

import inspect
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from anomalib.data import AnomalibDataModule
from torchvision.transforms.v2 import functional

import anomalib_ssl.augmentations
from anomalib_ssl.augmentations import Augmentation
from anomalib_ssl.checks import check_choice, check_output, check_whole
from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.inspection import HIGHLIGHT, Column, draw

DEFAULT_AUGMENTATIONS = ("CutPaste", "CutPasteScar")


def preview(
    data: AnomalibDataModule | Path,
    category: str | None = None,
    augmentations: Sequence[str | Augmentation] | str = DEFAULT_AUGMENTATIONS,
    rows: int = 4,
    image_size: int = 256,
    seed: int = 0,
    output: Path = Path("preview.png"),
) -> Path:
    """Draw a grid of images, what each augmentation makes of them, and the masks of what changed.

    Args:
        data: A folder of images, searched with its subfolders, or any image datamodule of anomalib. Of a folder in
            MVTec layout the sound training images are used, ``train/good``.
        category: Subfolder of ``data`` to look in, such as a category of MVTec AD.
        augmentations: Names of the package's augmentations, or augmentations themselves; or a single name.
        rows: Number of images, drawn at random; they repeat where the folder holds fewer.
        image_size: Side in pixels to which the images are resized before they are augmented.
        seed: Seed of the choice of images and of the augmentations.
        output: PNG file to write.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If an argument is out of its range, or a name is not one of the package's augmentations.
    """
    check_whole("rows", rows, 1)
    check_whole("seed", seed, 0)
    check_whole("image_size", image_size, 8)
    check_output("output", output, (".png",))
    chosen = [_augmentation(name) for name in ([augmentations] if isinstance(augmentations, str) else augmentations)]
    images = _images(data, category, rows, image_size, seed)

    columns = [Column("input", images)]
    for augmentation in chosen:
        name = type(augmentation).__name__
        # A generator of its own, so that a column does not depend on the columns beside it.
        generator = torch.Generator().manual_seed(zlib.crc32(f"{name}/{seed}".encode()))
        augmented, masks = augmentation(images, generator=generator)
        columns += [Column(name, augmented), Column("mask", _highlighted(augmented, masks))]
    # No metadata: the file's bytes say what was drawn and nothing else.
    draw(columns).savefig(output, format="png", metadata={"Software": None})
    return output


def available_augmentations() -> dict[str, type[Augmentation]]:
    """Find the augmentations of this package.

    Returns:
        Classes by name, in alphabetical order.
    """
    public = {name: getattr(anomalib_ssl.augmentations, name) for name in sorted(anomalib_ssl.augmentations.__all__)}
    return {
        name: item
        for name, item in public.items()
        if inspect.isclass(item) and issubclass(item, Augmentation) and not inspect.isabstract(item)
    }


def _augmentation(name: str | Augmentation) -> Augmentation:
    """Make an augmentation with its default settings, unless one is given."""
    if isinstance(name, Augmentation):
        return name
    known = available_augmentations()
    check_choice("augmentations", name, known)
    return known[name]()


def _images(
    data: AnomalibDataModule | Path | str,
    category: str | None,
    rows: int,
    image_size: int,
    seed: int,
) -> torch.Tensor:
    """Read a random choice of images, (rows, 3, image_size, image_size) in [0, 1]."""
    if isinstance(data, AnomalibDataModule):
        if category is not None:
            msg = f"category='{category}' goes with a folder; give the category to the datamodule instead."
            raise ValueError(msg)
        data.prepare_data()
        data.setup()
        paths = [Path(path) for path in data.train_data.samples.image_path]
    else:
        paths = find_images("data", Path(data) / (category or ""), "train/good")
    order = np.random.default_rng(seed).permutation(len(paths))
    picked = [paths[index] for index in np.resize(order, rows)]
    images = [read_image(path) for path in picked]
    return torch.stack([functional.resize(image, [image_size, image_size], antialias=True) for image in images]).clamp(
        0,
        1,
    )


def _highlighted(images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Fade images (rows, 3, H, W) to grey and paint the masked pixels (rows, 1, H, W) over them."""
    grey = images.mean(dim=1, keepdim=True)
    painted = torch.tensor(HIGHLIGHT).view(3, 1, 1) * (0.6 + 0.4 * grey)
    return torch.where(masks, painted, 0.25 + 0.45 * grey)
