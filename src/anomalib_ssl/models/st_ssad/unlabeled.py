# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The unlabelled images: where they come from, and that nothing but their paths comes along."""

import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from anomalib.data import AnomalibDataModule, MVTecAD2, MVTecLOCO
from anomalib.data.utils import ValSplitMode
from lightning.pytorch import Trainer
from torch import nn
from torchvision.transforms.v2 import Transform

from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.training.images.clean import CleanTrainingImages
from anomalib_ssl.training.images.shuffle import permutation

logger = logging.getLogger(__name__)

BATCH_SIZE = 32
"""Unlabelled images that are read at a time."""

NEEDED = (
    "'val' or 'test' for the images of the datamodule's split, without their labels, or the path of a folder of "
    "unlabelled images; normal and anomalous ones mixed"
)


class UnusableSourceError(ValueError):
    """The images that are meant to be tuned by are not there, or known to be normal or synthetic."""


@dataclass(frozen=True)
class UnlabeledImages:
    """Paths of unlabelled images.

    Attributes:
        paths: Image files, in no particular order.
        transductive: Whether test images are among them.
        description: Where they are from, in words.
    """

    paths: tuple[str, ...]
    transductive: bool
    description: str


def check_source(source: Any) -> str | None:
    """Raise unless ``source`` may name unlabelled images.

    Returns:
        The source, a path as text.

    Raises:
        TypeError: If ``source`` is no text, path or None.
    """
    if not isinstance(source, str | Path | None):
        msg = f"unlabeled_source must be {NEEDED}; got {source!r}."
        raise TypeError(msg)
    return None if source is None else str(source)


def find_unlabeled(source: str | None, trainer: Trainer, held_out: Collection[str] = ()) -> UnlabeledImages | None:
    """Find the unlabelled images of a run, by their paths alone.

    Args:
        source: ``val``, ``test`` or a folder, which is searched with its subfolders. None stands for ``val`` where
            that can be tuned by and holds no test images.
        trainer: A Trainer whose data is set up.
        held_out: Files of training images that the datamodule does not hold for now.

    Returns:
        The images, shuffled, so that a folder's or a split's order tells nothing; None if there are none for the
        source None, which the log then explains.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
        UnusableSourceError: If a split holds no images, or only what is known to be normal or synthetic.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    if source is not None:
        return _find(source, datamodule, held_out)
    try:
        return _find("val", datamodule, held_out, transductive=False)
    except UnusableSourceError as reason:
        logger.warning("Nothing is tuned: the pastes are the given ones, as of CutPaste. %s", reason)
        return None


def _find(source: str, datamodule: Any, held_out: Collection[str], transductive: bool = True) -> UnlabeledImages:
    """Find the images of a source; those of the test set only where that may be ``transductive``."""
    if source in ("val", "test"):
        paths, place = _split_paths(datamodule, source), f"the datamodule's {source} split"
    else:
        found = {str(path.resolve()) for path in find_images("unlabeled_source", source)}
        paths, place = sorted(found), f"the folder '{source}'"
    training, test = _paths(datamodule, "train") | _resolved(held_out), _paths(datamodule, "test")
    unseen = [path for path in paths if path not in training]
    if len(unseen) < 2:
        msg = (
            f"unlabeled_source={source!r} holds {len(unseen)} images that are not training images, and training "
            "images are normal. Without anomalous images there is nothing to tune by. It must be "
            f"{NEEDED}."
        )
        raise UnusableSourceError(msg)
    if len(unseen) < len(paths):
        logger.info("%d training images among the unlabelled ones are left out.", len(paths) - len(unseen))
    used = [unseen[index] for index in permutation(len(unseen), 0, 0).tolist()]
    shared = sum(path in test for path in used)
    if shared and not transductive:
        msg = (
            f"The validation images are test images (val_split_mode={datamodule.val_split_mode.value!r}): to tune with "
            f"these has to be asked for. unlabeled_source must be {NEEDED}."
        )
        raise UnusableSourceError(msg)
    description = f"{len(used)} images of {place}" + (f", {shared} of them test images" if shared else "")
    return UnlabeledImages(tuple(used), shared > 0, description)


def _split_paths(datamodule: Any, split: str) -> list[str]:
    """Image paths of a split; an error where the split has no unlabelled images to give."""
    if not isinstance(datamodule, AnomalibDataModule):
        msg = (
            f"unlabeled_source={split!r} needs a datamodule of anomalib, got {type(datamodule).__name__}; a folder of "
            "unlabelled images can be given with any data."
        )
        raise UnusableSourceError(msg)
    refused = {
        "from_train": "its images are taken from the training images, which are normal",
        "synthetic": "its anomalies are synthetic, drawn into training images",
    }
    option, mode = "val_split_mode", cast(Enum, datamodule.val_split_mode)
    if split == "test" or mode == ValSplitMode.SAME_AS_TEST:
        option, mode = "test_split_mode", datamodule.test_split_mode
    else:
        refused["none"] = "there is no validation split"
        if isinstance(datamodule, MVTecAD2) or (isinstance(datamodule, MVTecLOCO) and mode == ValSplitMode.FROM_DIR):
            refused[mode.value] = f"the validation images of {type(datamodule).__name__} are normal"
    paths = _paths(datamodule, split)
    reason = refused.get(mode.value, None if paths else "it is empty")
    if reason is not None:
        msg = (
            f"unlabeled_source={split!r} cannot be used, since {reason} ({option}={mode.value!r}). It must be {NEEDED}."
        )
        raise UnusableSourceError(msg)
    return sorted(paths)


def _paths(datamodule: Any, split: str) -> set[str]:
    """Resolved image paths of a split; nothing else of its samples is read."""
    dataset = getattr(datamodule, f"{split}_data", None)
    if dataset is None:
        return set()
    return _resolved(dataset.samples["image_path"])


def _resolved(paths: Iterable[str]) -> set[str]:
    return {str(Path(path).resolve()) for path in paths}


class UnlabeledBatches(CleanTrainingImages):
    """Unlabelled images, treated as test images are, read again each time: files are opened by their paths.

    Args:
        paths: Image files.
        trainer: A Trainer whose data is set up.
        pre_processor: anomalib's pre-processor, whose transform the images get.
        device: Where the images shall be.
    """

    def __init__(
        self, paths: tuple[str, ...], trainer: Trainer, pre_processor: nn.Module | None, device: torch.device
    ) -> None:
        super().__init__(trainer, pre_processor, device)
        self.paths = paths

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Give batches (B, C, H, W), values in [0, 1].

        Raises:
            ValueError: If an image cannot be read, or sizes differ after pre-processing.
        """
        single = super().__iter__()
        while images := list(islice(single, BATCH_SIZE)):
            sizes = sorted({tuple(image.shape[1:]) for image in images})
            if len(sizes) > 1:
                msg = f"unlabeled_source: images must all have one size after pre-processing, got {sizes}."
                raise ValueError(msg)
            yield torch.cat(images)

    def _read(self, augmentations: Transform | None) -> Iterator[torch.Tensor]:
        # One by one: the images of a folder have one size only once they are pre-processed.
        for path in self.paths:
            image = read_image(path)
            yield torch.as_tensor(image if augmentations is None else augmentations(image)).unsqueeze(0)
