# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Setting a part of the normal training images aside, to judge a self-supervised model without any test image."""

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from anomalib_ssl.checks import check_number
from anomalib_ssl.training.images.clean import OTHER_BATCH_SIZE, CleanTrainingImages, read
from anomalib_ssl.training.images.shuffle import permutation

logger = logging.getLogger(__name__)

LEAST_IMAGES = 20
"""A smaller training set is trained on as a whole."""

MOST_HELD_OUT = 100
"""So many images are enough to measure with; the others are better trained on."""

SEED = 0
"""The same for every run, so that one that is resumed with another seed is not judged by what it was trained on."""


class HeldOut(Callback):
    """Take a part of the datamodule's training images away for the time of a fit, to judge the model by.

    At each validation the model's ``held_out_metrics`` are logged, ``held_out_`` before each name. Validation and test
    images have no part in this.

    Must come before :class:`~anomalib_ssl.training.images.feed.ImageFeed` in the list of callbacks.

    Args:
        share: Share of the training images, in [0, 0.5]: at least one image, at most 100. None is held out for a share
            of 0, nor of fewer than 20 images.

    Raises:
        ValueError: If ``share`` is outside its limits.
    """

    def __init__(self, share: float = 0.1) -> None:
        check_number("held_out_share", share, 0, 0.5)
        self.share = share
        self._dataset: AnomalibDataset | None = None
        self._whole: AnomalibDataset | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Split the training set, before a loader is made of it."""
        del pl_module
        if stage != "fit" or self.share == 0:
            return
        datamodule: Any = getattr(trainer, "datamodule", None)
        reason = _unfit(datamodule)
        if reason is not None:
            logger.info("No training images are held out: %s.", reason)
            return
        whole: AnomalibDataset = datamodule.train_data
        training, held_out = split_indices(len(whole), self.share)
        logger.info("%d of %d training images are held out.", len(held_out), len(whole))
        self._whole, self._dataset = whole, whole.subsample(held_out)
        datamodule.train_data = whole.subsample(training)

    @property
    def paths(self) -> set[str]:
        """Files of the images held out, as the datamodule names them."""
        return set() if self._dataset is None else set(self._dataset.samples["image_path"])

    def images(self, trainer: Trainer, pl_module: Any) -> Iterable[torch.Tensor]:
        """Give the images, in batches (B, C, H, W) with values in [0, 1]; none where none are held out."""
        if self._dataset is None:
            return ()
        return HeldOutImages(self._dataset, trainer, pl_module.pre_processor, pl_module.device)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Log what was measured; Lightning takes no logs any earlier, and statistics are fitted by now."""
        if self._dataset is None or trainer.state.fn != TrainerFn.FITTING:
            return
        # All processes shall know the same, whatever their rounding.
        measured = trainer.strategy.broadcast(dict(pl_module.held_out_metrics))
        pl_module.log_dict({f"held_out_{name}": value for name, value in measured.items()})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the images back."""
        del pl_module, stage
        if self._whole is not None:
            datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
            datamodule.train_data = self._whole
        self._dataset = self._whole = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the images back."""
        del exception
        self.teardown(trainer, pl_module, "fit")


class HeldOutImages(CleanTrainingImages):
    """The images held out, treated as test images are; may be gone through any number of times.

    Args:
        dataset: The images.
        trainer: The Trainer of the run.
        pre_processor: anomalib's pre-processor, whose transform the images get.
        device: Where the images shall be.
    """

    def __init__(self, dataset: AnomalibDataset, trainer: Trainer, pre_processor: Any, device: torch.device) -> None:
        super().__init__(trainer, pre_processor, device)
        self.dataset = dataset

    def _read(self, augmentations: Transform | None) -> Iterator[torch.Tensor]:
        loader = DataLoader(self.dataset, OTHER_BATCH_SIZE, collate_fn=self.dataset.collate_fn)
        yield from read(loader, augmentations)


def split_indices(count: int, share: float) -> tuple[list[int], list[int]]:
    """Choose which images are held out, the same ones each time.

    Args:
        count: Number of images.
        share: Share that is held out; at least one image, at most 100.

    Returns:
        Indices of the images for training and of those held out, both in ascending order.
    """
    order = permutation(count, SEED, 0).tolist()
    held_out = min(max(round(share * count), 1), MOST_HELD_OUT)
    return sorted(order[held_out:]), sorted(order[:held_out])


def _unfit(datamodule: Any) -> str | None:
    """Why nothing can be held out of a datamodule's training set, if so."""
    if not isinstance(datamodule, AnomalibDataModule):
        return "training data does not come from a datamodule of anomalib"
    dataset = datamodule.train_data
    if not isinstance(dataset, AnomalibDataset) or len(dataset) != len(dataset.samples):
        return f"{type(dataset).__name__} is no set of single images"
    if len(dataset) < LEAST_IMAGES:
        return f"there are {len(dataset)} training images, fewer than {LEAST_IMAGES}"
    return None
