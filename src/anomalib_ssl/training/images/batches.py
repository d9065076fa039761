# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Batches of a run, each of them a pure function of the run's seed and the batch's number."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from anomalib.data import ImageBatch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Transform

from anomalib_ssl.training.images.memory import ImageMemory, name_unreadable
from anomalib_ssl.training.images.shuffle import BatchOrder
from anomalib_ssl.training.seeds import seed_step


class TrainingBatches(ABC):
    """Batches of training images, as Lightning takes them from a loader.

    Iterating goes on where the run is: at the batch after the last one that was completed, also after a checkpoint was
    loaded, whether it was written at the end of an epoch or within.

    Args:
        loader: The loader in whose place batches are drawn.
        seed: Seed of the run, at least 0.
        trainer: The Trainer whose run is fed.
    """

    def __init__(self, loader: DataLoader[Any], seed: int, trainer: Trainer) -> None:
        self.loader = loader
        self.dataset: Any = loader.dataset
        self.seed = seed
        self.trainer = trainer

    @abstractmethod
    def __len__(self) -> int:
        """Batches per epoch."""

    @abstractmethod
    def __iter__(self) -> Iterator[Any]:
        """Go through one epoch, or what is left of it."""

    @property
    def _completed(self) -> int:
        """Batches of the run so far; to be read late, since Lightning makes iterators before it loads a checkpoint."""
        return int(self.trainer.fit_loop.epoch_loop.batch_progress.total.completed)

    def _seed_batch(self, number: int) -> None:
        seed_step("draw", self.seed, number, self.trainer.global_rank)


class StoredBatches(TrainingBatches):
    """Batches drawn from memory, in place of a loader that decodes images again and again.

    Args:
        loader: The loader in whose place batches are drawn.
        memory: Its images.
        transform: What is done to each image each time it is drawn.
        order: Which images form which batch.
        seed: Seed of the run, at least 0.
        trainer: The Trainer whose run is fed.
        updates_per_epoch: Optimiser updates per epoch, drawn from consecutive passes. An epoch is one pass if None.

    Attributes:
        clean: The training images as test images are seen, in batches (B, C, H, W) of float32 on the host, once they
            have been read; empty before, and where they are not kept.
    """

    def __init__(
        self,
        loader: DataLoader[Any],
        memory: ImageMemory,
        transform: Transform | None,
        order: BatchOrder,
        seed: int,
        trainer: Trainer,
        updates_per_epoch: int | None = None,
    ) -> None:
        super().__init__(loader, seed, trainer)
        self.memory = memory
        self.transform = transform
        self.order = order
        self.updates_per_epoch = updates_per_epoch
        self.clean: list[torch.Tensor] = []
        self._pass: tuple[int, int] | None = None
        self._indices = self._on_device = torch.empty(0, dtype=torch.int64)

    def __len__(self) -> int:
        """Batches per epoch."""
        if self.updates_per_epoch is None:
            return len(self.order)
        return self.updates_per_epoch * self.trainer.accumulate_grad_batches

    def __iter__(self) -> Iterator[ImageBatch]:
        """Go through one epoch, or what is left of it."""
        done = self._completed
        for number in range(done, done + len(self)):
            yield self.batch(number)

    def batch(self, number: int) -> ImageBatch:
        """Draw one batch of the run.

        Args:
            number: Number of the batch, from 0 at the start of the run.

        Returns:
            The batch on the training device: images float32 (B, C, H, W), values in [0, 1] unless the datamodule's
            augmentations change that.
        """
        number_of_pass, batch = self._locate(number)
        self._load_pass(number_of_pass)
        bounds = self.order.bounds(batch)
        if self.transform is not None:
            self._seed_batch(number)
        return self.memory.batch(self._indices[bounds], self._on_device[bounds], self.transform)

    def _locate(self, number: int) -> tuple[int, int]:
        """Pass, and batch within it."""
        if self.updates_per_epoch is not None and not self.trainer.overfit_batches:  # type: ignore[attr-defined]
            return divmod(number, len(self.order))
        # An epoch may end before the pass does, by limit_train_batches; the next one begins a new pass.
        number_of_pass, batch = divmod(number, int(self.trainer.num_training_batches))
        return number_of_pass, batch % len(self.order)

    def _load_pass(self, number: int) -> None:
        if self._pass == (self.seed, number):
            return
        self._pass = self.seed, number
        self._indices = self.order.indices(self.seed, number)
        pinned = self._indices.pin_memory() if self.memory.device.type == "cuda" else self._indices
        self._on_device = pinned.to(self.memory.device, non_blocking=True)


class StreamedBatches(TrainingBatches):
    """Batches of the loader itself, with random numbers that depend on the seed and the batch's number alone.

    Within an epoch that is resumed, the batches that were seen before are read and left out.
    """

    def __len__(self) -> int:
        """Batches per epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Go through one epoch, or what is left of it."""
        done = self._completed
        number = done - done % int(self.trainer.num_training_batches)
        self._seed_batch(number)
        batches = iter(self.loader)
        while True:
            self._seed_batch(number)
            try:
                batch = next(batches, None)
            except (OSError, RuntimeError, ValueError) as error:
                name_unreadable(self.dataset, error)
                raise
            if batch is None:
                return
            if number >= done:
                yield batch
            number += 1

    @property
    def sampler(self) -> Any:
        """The loader's, which Lightning tells the number of the epoch."""
        return self.loader.sampler

    @property
    def batch_sampler(self) -> Any:
        """Likewise."""
        return self.loader.batch_sampler
