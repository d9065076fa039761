# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The sound images that a model is qualified with, and what it may know of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import torch
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from PIL import Image

from anomalib_ssl.augmentations.pixels import from_unit
from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.training.images.held_out import LEAST_IMAGES, split_indices

Source: TypeAlias = Literal["auto", "test", "train"]
"""Which images of a datamodule are taken."""

SHARE = 0.1
"""Share of the training images that is taken where the model has held none out."""

CACHED = 16
"""Images kept in memory; the others are read again when their turn comes."""


class SoundImages(Sequence[torch.Tensor]):
    """Image files, read when they are asked for: uint8, (3, H, W)."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._read = lru_cache(CACHED)(lambda path: from_unit(read_image(path), torch.uint8))

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[torch.Tensor]: ...

    def __getitem__(self, index: int | slice) -> torch.Tensor | Sequence[torch.Tensor]:
        """Read one image, or some."""
        paths = self.paths[index]
        return self._read(paths) if isinstance(paths, Path) else [self._read(path) for path in paths]

    @property
    def shorter_side(self) -> int:
        """Shorter side in pixels of the smallest image."""
        return min(min(self._size(path)) for path in self.paths)

    @staticmethod
    def _size(path: Path) -> tuple[int, int]:
        try:
            with Image.open(path) as image:
                return image.size
        except OSError as error:
            msg = f"'{path}' cannot be read as an image: {error}"
            raise ValueError(msg) from error


@dataclass(frozen=True)
class Sound:
    """Sound images and what they are.

    Args:
        images: The images.
        origin: What they are, in words.
        warning: What this means for the figures; empty where the models have not seen them.
    """

    images: SoundImages
    origin: str
    warning: str = ""


def find_sound(data: AnomalibDataModule | Path | str, source: Source, models: Sequence[AnomalibModule]) -> Sound:
    """Find sound images that the models have not been trained on.

    Args:
        data: A folder of sound images, searched with its subfolders (of a category in MVTec layout ``test/good``), or a
            datamodule.
        source: Of a datamodule, its sound ``test`` images, or those of its ``train`` images that were held out;
            ``auto`` for the former where there are any, else the latter.
        models: Trained models: this package's have held images out of their training.

    Raises:
        FileNotFoundError: If a folder does not exist or holds no image.
        ValueError: If there is no sound image.
    """
    if not isinstance(data, AnomalibDataModule):
        paths = find_images("data", data, "test/good")
        return Sound(SoundImages(paths), f"the {len(paths)} images of the folder that was named")
    data.prepare_data()
    data.setup()
    test, train = (_sound_paths(getattr(data, f"{name}_data", None)) for name in ("test", "train"))
    if source == "test" or (source == "auto" and test):
        if not test:
            msg = f"sound='test': {data.name} has no sound test images; sound='train' takes training images."
            raise ValueError(msg)
        return Sound(SoundImages(test), f"the {len(test)} sound test images of {_named(data)}")
    if not train:
        msg = f"data: {data.name} holds no sound images."
        raise ValueError(msg)
    shares = {float(getattr(getattr(model, "_held_out", None), "share", 0.0)) for model in models}
    unseen = len(shares) == 1 and 0 not in shares and len(train) >= LEAST_IMAGES
    share = shares.pop() if unseen else SHARE
    held_out = split_indices(len(train), share)[1] if len(train) > 1 else [0]
    chosen = [train[index] for index in held_out]
    whose = f"training images of {_named(data)}"
    if unseen:
        return Sound(
            SoundImages(chosen), f"{len(chosen)} of the {len(train)} {whose}, those that were held out of training"
        )
    warning = (
        "Training may have seen these images. Then it knows them: false alarms on other images are more frequent than "
        "stated here, and defects are found less often. Name a folder of sound images that it has not seen."
    )
    return Sound(SoundImages(chosen), f"{len(chosen)} of the {len(train)} {whose}", warning)


def _sound_paths(dataset: Any) -> list[Path]:
    if dataset is None:
        return []
    samples = dataset.samples
    return [Path(path) for path in samples.image_path[samples.label_index == 0]]


def _named(data: AnomalibDataModule) -> str:
    return " ".join(part for part in (data.name, str(data.category or "")) if part)
