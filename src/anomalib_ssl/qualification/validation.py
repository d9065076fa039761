# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Planted defects as validation data of any anomalib training, in place of the test images."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import pandas as pd
from anomalib.data import AnomalibDataModule
from anomalib.data.datasets.base.image import AnomalibDataset
from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_ssl.checks import check_choices, check_number, check_whole
from anomalib_ssl.qualification.families import FAMILIES
from anomalib_ssl.qualification.planting import Defect, default_sizes, grid, plant
from anomalib_ssl.qualification.sound import SoundImages
from anomalib_ssl.training.images.held_out import split_indices

logger = logging.getLogger(__name__)

CONTRASTS = (0.05, 0.1, 0.2)
"""Contrasts of the defects, in turn."""

LEAST_IMAGES = 4
"""Of fewer training images none can be spared."""

_folders: list[Any] = []
"""Temporary folders of images, removed when the process ends."""


class PlantedDataset(AnomalibDataset):
    """Sound images and images with planted defects, with masks.

    Args:
        samples: What anomalib's data sets have: ``image_path``, ``label``, ``label_index``, ``mask_path``, ``split``.
        augmentations: Augmentations of the validation images.
    """

    def __init__(self, samples: pd.DataFrame, augmentations: Any) -> None:
        super().__init__(augmentations=augmentations)
        self.samples = samples
        self.samples.attrs["task"] = "segmentation"


class PlantedValidation(Callback):
    """Validate a training with planted defects: thresholds and the choice of a checkpoint never see a test image.

    anomalib validates on the test images by default. This callback takes a share of the training images away, before
    training starts, and validates on them, as they are and with a planted defect each. Of fewer than four training
    images none is taken away, but one is validated on all the same. No mask is needed. On the command line:
    ``anomalib train ... --trainer.callbacks anomalib_ssl.qualification.PlantedValidation``.

    Args:
        share: Share of the training images that is not trained on, in (0, 0.5]: at least one image, at most 100.
        defects: Least number of images with a defect; several are planted in copies of the same image where there are
            fewer images.
        families: Families of the defects, in turn. Defaults to all.
        seed: Seed of what is planted.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its limits; at the start of a fit, if the images are too small.
    """

    def __init__(
        self, share: float = 0.1, defects: int = 36, families: Sequence[str] | None = None, seed: int = 0
    ) -> None:
        check_number("share", share, 0.001, 0.5)
        check_whole("defects", defects, 1, 10_000)
        self.families = list(FAMILIES) if families is None else list(families)
        check_choices("families", self.families, FAMILIES)
        check_whole("seed", seed, 0, 2**63 - 1)
        self.share, self.defects, self.seed = share, defects, seed

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Split the training set and plant defects, before a loader is made."""
        del pl_module
        datamodule: Any = getattr(trainer, "datamodule", None)
        if stage not in ("fit", "validate") or isinstance(getattr(datamodule, "val_data", None), PlantedDataset):
            return
        if not isinstance(datamodule, AnomalibDataModule):
            msg = "PlantedValidation needs a datamodule of anomalib, for it takes its training images."
            raise ValueError(msg)  # noqa: TRY004  # it is about what was configured
        whole = datamodule.train_data
        training, held_out = split_indices(len(whole), self.share)
        if len(whole) < LEAST_IMAGES:
            training = list(range(len(whole)))
        sound = [Path(path) for path in whole.samples.image_path.iloc[held_out]]
        folder = TemporaryDirectory(prefix="anomalib_ssl_planted_")
        _folders.append(folder)
        samples = plant_files(sound, Path(folder.name), self.families, self.defects, self.seed)
        before = getattr(datamodule, "val_data", None) or datamodule.test_data
        datamodule.train_data = whole.subsample(training)
        datamodule.val_data = PlantedDataset(samples, copy.deepcopy(before.augmentations))
        count = int(samples.label_index.sum())
        logger.info("Validated on %d of %d training images, and on %d planted defects.", len(sound), len(whole), count)


def plant_files(sound: Sequence[Path], folder: Path, families: Sequence[str], least: int, seed: int) -> pd.DataFrame:
    """Write images with planted defects, and their masks, as PNG files.

    Sizes and contrasts of the defects are those of ``anomalib-ssl qualify``, each in turn.

    Args:
        sound: Sound images.
        folder: Where to write: ``images`` and ``masks``.
        families: Families of the defects, in turn.
        least: Least number of defects; each image has one at least.
        seed: Seed.

    Returns:
        Samples as anomalib's data sets have them: the sound images, and those with a defect.
    """
    images = SoundImages(sound)
    sizes = default_sizes(images.shorter_side)
    count = max(least, len(sound))
    grid(families, sizes, CONTRASTS, 1, images.shorter_side)  # refuses images that are too small
    # Every family meets every size, and either every contrast.
    defects = [
        Defect(kind, sizes[(turn + place) % len(sizes)], CONTRASTS[turn % len(CONTRASTS)], number)
        for number in range(count)
        for turn, place in [divmod(number, len(families))]
        for kind in [families[place]]
    ]
    rows = [(str(path), "normal", 0, "") for path in sound]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for defect, planted in zip(defects, plant(images, defects, seed), strict=True):
        if planted is None:
            continue
        image, mask = (folder / name / f"{defect.number:05d}.png" for name in ("images", "masks"))
        cv2.imwrite(str(image), planted.image.permute(1, 2, 0).numpy()[..., ::-1])
        cv2.imwrite(str(mask), planted.mask.byte().numpy() * 255)
        rows.append((str(image), "abnormal", 1, str(mask)))
    samples = pd.DataFrame(rows, columns=["image_path", "label", "label_index", "mask_path"])
    return samples.assign(split="val")
