# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How training images reach the model outside the training loop."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from anomalib.data import AnomalibDataset
from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, SequentialSampler
from torchvision.transforms.v2 import Resize, Transform

from anomalib_ssl.training.images.batches import StoredBatches, TrainingBatches
from anomalib_ssl.training.images.memory import Readable
from anomalib_ssl.training.images.transforms import is_deterministic, steps

OTHER_BATCH_SIZE = 32
"""Images per batch where the training loader does not say."""


class CleanTrainingImages:
    """The training images in a fixed order, treated as test images are; may be gone through any number of times.

    Training augmentations of the datamodule are left out; what it does to test images, such as a crop, is done. Images
    are read from disk, the first time only where training is fed from memory: then they are kept, if there is room,
    as float32, since statistics of rounded images would be a little off those of test images.

    Args:
        trainer: A Trainer whose training data is set up.
        pre_processor: anomalib's pre-processor, whose transform the images get.
        device: Where the images shall be.
    """

    def __init__(self, trainer: Trainer, pre_processor: nn.Module | None, device: torch.device) -> None:
        self.trainer = trainer
        self.transform: Transform | None = getattr(pre_processor, "transform", None)
        self.device = device

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Give batches (B, C, H, W), values in [0, 1]."""
        augmentations = test_augmentations(self.trainer, self.transform)
        for batch in self._read(augmentations):
            images = batch.to(self.device)
            yield self.transform(images) if self.transform is not None else images

    def _read(self, augmentations: Transform | None) -> Iterator[torch.Tensor]:
        for loader in training_loaders(self.trainer):
            if isinstance(loader, StoredBatches):
                yield from _kept(loader, augmentations)
            else:
                yield from read(loader, augmentations)


def num_training_images(trainer: Trainer) -> int:
    """Number of training images of a Trainer whose training data is set up."""
    datasets: list[Any] = [loader.dataset for loader in training_loaders(trainer)]
    return sum(map(len, datasets))


def images_per_update(trainer: Trainer) -> int:
    """Number of images, over all processes, that an optimiser update of a run sees."""
    loader = training_loaders(trainer)[0]
    dataset: Any = loader.dataset
    images = min(_loader(loader).batch_size or OTHER_BATCH_SIZE, len(dataset))
    return images * trainer.accumulate_grad_batches * trainer.world_size


def training_loaders(trainer: Trainer) -> list[DataLoader[Any] | TrainingBatches]:
    """The Trainer's training loaders; setting them up first where Lightning has not yet done so."""
    trainer.fit_loop.setup_data()
    loaders = trainer.train_dataloader
    return [] if loaders is None else list(CombinedLoader(loaders).flattened)


def test_augmentations(trainer: Trainer, transform: Transform | None) -> Transform | None:
    """What the datamodule does to a test image as it is read, else the model's resizing, as anomalib does by itself."""
    test_data = getattr(getattr(trainer, "datamodule", None), "test_data", None)
    if isinstance(test_data, AnomalibDataset):
        return test_data.augmentations
    resizes: list[Any] = extract_transforms_by_type(transform, Resize)
    return resizes[0] if resizes else None


def read(loader: DataLoader[Any] | TrainingBatches, augmentations: Transform | None) -> Iterator[torch.Tensor]:
    """Read the images of a loader from disk, in order and with other augmentations than its own.

    Returns:
        Batches (B, C, H, W) on the host, values in [0, 1].

    Raises:
        ValueError: If an image cannot be read; the message names it.
    """
    loader = _loader(loader)
    dataset: Any = loader.dataset
    if isinstance(dataset, AnomalibDataset):
        dataset = copy.copy(dataset)
        dataset.augmentations = augmentations
    # A loader with batches of the user's own has no batch size; one without any batches has no sampler of them either.
    own_batches = loader.batch_size is None and loader.batch_sampler is not None
    batches: DataLoader[Any] = DataLoader(
        Readable(dataset),
        batch_size=OTHER_BATCH_SIZE if own_batches else loader.batch_size,
        sampler=SequentialSampler(dataset),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
    )
    for batch in batches:
        yield batch.image


def _loader(loader: DataLoader[Any] | TrainingBatches) -> DataLoader[Any]:
    return loader.loader if isinstance(loader, TrainingBatches) else loader


def _kept(loader: StoredBatches, augmentations: Transform | None) -> Iterator[torch.Tensor]:
    if loader.clean:
        yield from loader.clean
        return
    batches: list[torch.Tensor] = []
    spare = loader.memory.spare if all(map(is_deterministic, steps(augmentations))) else 0.0
    for images in read(loader, augmentations):
        spare -= images.nbytes
        if spare >= 0:
            batches.append(images)
        else:
            batches.clear()
        yield images
    loader.clean = batches
