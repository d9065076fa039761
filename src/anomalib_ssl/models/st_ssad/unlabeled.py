# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The unlabelled images: where they come from, and that nothing but the images comes along."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataModule, MVTecAD2
from anomalib.data.utils import ValSplitMode, read_image
from lightning.pytorch import Trainer
from torch import nn

from anomalib_ssl.preview import EXTENSIONS
from anomalib_ssl.training.clean_images import _test_augmentations
from anomalib_ssl.training.shuffle import permutation

logger = logging.getLogger(__name__)

MOST_IMAGES = 4096
"""More images are not kept in memory: a random part of them is enough to tune a few numbers."""

NEEDED = (
    "'val' or 'test' for the images of the datamodule's split, without their labels, or the path of a folder of "
    "unlabelled images; normal and anomalous ones mixed"
)


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


def find_unlabeled(source: str | Path | None, trainer: Trainer) -> UnlabeledImages:
    """Find the unlabelled images of a run, by their paths alone.

    Args:
        source: ``val``, ``test`` or a folder, which is searched with its subfolders.
        trainer: A Trainer whose data is set up.

    Returns:
        The images, shuffled, so that a folder's or a split's order tells nothing.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If no source is given, it holds no images, or only what is known to be normal or synthetic.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    if source is None:
        msg = f"unlabeled_source must be given: {NEEDED}. Tuning compares augmented images with real unlabelled ones."
        raise ValueError(msg)
    if str(source) in ("val", "test"):
        paths = _split_paths(datamodule, str(source))
        description = f"{len(paths)} images of the datamodule's {source} split"
    else:
        paths = _folder_paths(Path(source))
        description = f"{len(paths)} images of the folder '{source}'"
    training, test = _paths(datamodule, "train"), _paths(datamodule, "test")
    unseen = [path for path in paths if path not in training]
    if len(unseen) < 2:
        msg = (
            f"unlabeled_source={str(source)!r} holds {len(unseen)} images that are not training images, and training "
            "images are normal. Without anomalous images the validation loss is least for an augmentation that changes "
            f"nothing, so there is nothing to tune by. It must be {NEEDED}."
        )
        raise ValueError(msg)
    if len(unseen) < len(paths):
        logger.info("%d training images among the unlabelled ones are left out.", len(paths) - len(unseen))
    order = permutation(len(unseen), 0, 0).tolist()
    shared = sum(path in test for path in unseen)
    if shared:
        description += f", {shared} of them test images"
    return UnlabeledImages(tuple(unseen[index] for index in order[:MOST_IMAGES]), shared > 0, description)


def _split_paths(datamodule: Any, split: str) -> list[str]:
    """Image paths of a split; an error where the split has no unlabelled images to give."""
    if not isinstance(datamodule, AnomalibDataModule):
        msg = (
            f"unlabeled_source={split!r} needs a datamodule of anomalib, got {type(datamodule).__name__}; a folder of "
            "unlabelled images can be given with any data."
        )
        raise ValueError(msg)  # noqa: TRY004
    refused = {
        "from_train": "its images are taken from the training images, which are normal",
        "synthetic": "its anomalies are synthetic, drawn into training images",
    }
    mode: Any = datamodule.val_split_mode
    if split == "test" or mode == ValSplitMode.SAME_AS_TEST:
        mode = datamodule.test_split_mode
    else:
        refused["none"] = "there is no validation split"
    reason = refused.get(mode.value)
    if split == "val" and isinstance(datamodule, MVTecAD2):
        reason = "the validation images of MVTec AD 2 are normal"
    paths = _paths(datamodule, split)
    if reason is None and not paths:
        reason = "it is empty"
    if reason is not None:
        msg = (
            f"unlabeled_source={split!r} cannot be used, since {reason} ({split}_split_mode={mode.value!r}). "
            f"It must be {NEEDED}."
        )
        raise ValueError(msg)
    return sorted(paths)


def _paths(datamodule: Any, split: str) -> set[str]:
    """Resolved image paths of a split; nothing else of its samples is read."""
    dataset = getattr(datamodule, f"{split}_data", None)
    if dataset is None:
        return set()
    return {str(Path(path).resolve()) for path in dataset.samples["image_path"]}


def _folder_paths(folder: Path) -> list[str]:
    if not folder.is_dir():
        msg = f"unlabeled_source: there is no folder '{folder}'. It must be {NEEDED}."
        raise FileNotFoundError(msg)
    paths = sorted(
        str(path.resolve()) for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file()
    )
    if not paths:
        msg = f"unlabeled_source: no images ({', '.join(EXTENSIONS)}) in '{folder}' or its subfolders."
        raise ValueError(msg)
    return paths


class ImagePool:
    """Images in memory as uint8, to draw from.

    Args:
        batches: Images in batches (B, C, H, W), values in [0, 1]; of the first 4096 of them.

    Raises:
        ValueError: If sizes differ, or there are no images.

    Example:
        >>> import torch
        >>> pool = ImagePool([torch.rand(3, 3, 8, 8), torch.rand(2, 3, 8, 8)])
        >>> len(pool), pool.draw(4, torch.Generator().manual_seed(0)).shape
        (5, torch.Size([4, 3, 8, 8]))
    """

    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        stored: list[torch.Tensor] = []
        for batch in batches:
            stored.append(batch.mul(255).round_().clamp_(0, 255).to(torch.uint8))
            if sum(map(len, stored)) >= MOST_IMAGES:
                break
        sizes = {tuple(one.shape[1:]) for one in stored}
        if len(sizes) != 1:
            msg = f"Images must all have one size after pre-processing, got {sorted(sizes)}."
            raise ValueError(msg)
        self.images = torch.cat(stored)[:MOST_IMAGES]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def draw(self, count: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Draw images without replacement.

        Args:
            count: Number of images; all of them if there are fewer.
            generator: Source of randomness on the images' device.

        Returns:
            Images (B, C, H, W), values in [0, 1], in random order.
        """
        order = torch.randperm(len(self.images), generator=generator, device=self.images.device)
        return self.images[order[:count]].float().div_(255)

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """Go through all images, in batches (B, C, H, W) of floats in [0, 1]."""
        for part in self.images.split(size):
            yield part.float().div_(255)


def read_unlabeled(
    paths: Sequence[str], trainer: Trainer, pre_processor: nn.Module | None, device: torch.device
) -> ImagePool:
    """Read images as test images are seen: files are opened by path, no dataset that knows labels is asked.

    Args:
        paths: Image files.
        trainer: A Trainer whose data is set up.
        pre_processor: anomalib's pre-processor, whose transform the images get.
        device: Where the images shall be.

    Returns:
        The images.

    Raises:
        ValueError: If sizes differ after pre-processing.
    """
    transform = getattr(pre_processor, "transform", None)
    augmentations = _test_augmentations(trainer, transform)

    def read(path: str) -> torch.Tensor:
        image: Any = read_image(path, as_tensor=True)
        if augmentations is not None:
            image = augmentations(image)
        image = torch.as_tensor(image).unsqueeze(0).to(device)
        return image if transform is None else transform(image)

    return ImagePool(read(path) for path in paths)
