# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Putting the training feed in the place of the datamodule's loader, where that keeps its meaning."""

import logging
from collections.abc import Sized
from operator import attrgetter
from typing import Any

import torch
from anomalib.data import AnomalibDataset, ImageBatch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, RandomSampler, SequentialSampler
from torchvision.transforms.v2 import Transform

from anomalib_ssl.training.images.batches import StoredBatches, StreamedBatches, TrainingBatches
from anomalib_ssl.training.images.clean import training_loaders
from anomalib_ssl.training.images.memory import NotStoredError, store
from anomalib_ssl.training.images.shuffle import BatchOrder
from anomalib_ssl.training.images.transforms import compose, runs_on, split_deterministic, steps
from anomalib_ssl.training.seeds import seed_step

logger = logging.getLogger(__name__)

LIGHTNING_INSIDES = (
    "fit_loop.setup_data",
    "fit_loop._data_source.instance",
    "fit_loop._combined_loader",
    "fit_loop.epoch_loop.batch_progress.total.completed",
    "_accelerator_connector.use_distributed_sampler",
)
"""What is used of Lightning's Trainer that Lightning does not promise to keep."""


class ImageFeed(Callback):
    """Feed training from memory: decode and resize the training images once, at the start of a fit.

    They are kept as uint8 on the training device, else in the host's pinned memory, else streamed through the
    datamodule's loader; which of these, and why, is logged. The model sees the images that this loader would give, up
    to half a grey level where resizing yields fractions. Deterministic transforms are done before images are stored,
    random augmentations each time an image is drawn.

    The callback owns the seed of the run. It is part of every checkpoint, and all random numbers of a batch and of a
    training step follow from it and from how far the run is: a resumed run equals one that was never interrupted.

    Args:
        enabled: Whether images are kept in memory at all.
        memory_limits: Most GiB of images on the device, and in the host's pinned memory.
        updates_per_epoch: Optimiser updates per epoch, drawn from consecutive passes over the images. An epoch is one
            pass if None.
        seed: Seed of the run; drawn from torch's global generator if None.
    """

    def __init__(
        self, enabled: bool, memory_limits: tuple[float, float], updates_per_epoch: int | None, seed: int | None
    ) -> None:
        self.enabled = enabled
        self.memory_limits = memory_limits
        self.updates_per_epoch = updates_per_epoch
        self.seed = seed
        self._run_seed = 0
        self._counts = True
        self._batches: TrainingBatches | None = None
        self._source: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Decode the images and put the feed in the loader's place."""
        del pl_module
        if stage != "fit":
            return
        drawn = int(torch.randint(2**62, ())) if self.seed is None else self.seed
        # Processes share one order, even where nobody has seeded them.
        self._run_seed = trainer.strategy.broadcast(drawn)
        absent = [path for path in LIGHTNING_INSIDES if not _has(trainer, path)]
        self._counts = not absent
        if absent:
            logger.warning(
                "The datamodule's loader is used as it is, so that a resumed run sees other batches: this version of "
                "Lightning has no %s.",
                ", ".join(absent),
            )
            return
        try:
            self._plug_in(trainer, self._stored(trainer))
        except NotStoredError as reason:
            self._stream(trainer, str(reason))

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Seed what the model does with the batch; each process draws numbers of its own."""
        del args, kwargs
        # Not the batch's index within the epoch: after resuming from the end of one, Lightning counts on.
        number = trainer.fit_loop.epoch_loop.batch_progress.total.completed if self._counts else trainer.global_step
        seed_step("update", self._run_seed, number, trainer.global_rank)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release the memory."""
        del pl_module, stage
        if self._batches is not None:
            trainer.fit_loop._data_source.instance = self._source
            trainer.fit_loop._combined_loader = None
            self._batches = self._source = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Release the memory."""
        del exception
        self.teardown(trainer, pl_module, "fit")

    def state_dict(self) -> dict[str, Any]:
        """The seed of the run."""
        return {"seed": self._run_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the interrupted run."""
        self._run_seed = state_dict["seed"]
        if self._batches is not None:
            self._batches.seed = self._run_seed

    def _stored(self, trainer: Trainer) -> StoredBatches:
        if not self.enabled:
            msg = "in_memory is off"
            raise NotStoredError(msg)
        loader = trainer.fit_loop._data_source.dataloader()
        device = trainer.strategy.root_device
        _check_keeps_meaning(trainer, loader, device)
        dataset: Any = loader.dataset
        first, rest = split_deterministic(dataset.augmentations)
        # The processes of a machine share its memory.
        limits = (self.memory_limits[0], self.memory_limits[1] / max(trainer.num_devices, 1))
        memory = store(dataset, first, device, limits, loader.num_workers)
        logger.info(
            "Training images are kept in memory: %d images in %s, %d bytes.",
            len(memory),
            memory.place,
            memory.num_bytes,
        )
        shard = _shard(trainer, loader.sampler)
        shuffle = _shuffles(loader.sampler) and not trainer.overfit_batches  # type: ignore[attr-defined]
        order = BatchOrder(len(memory), loader.batch_size, shuffle, *shard)
        return StoredBatches(loader, memory, compose(rest), order, self._run_seed, trainer, self.updates_per_epoch)

    def _stream(self, trainer: Trainer, reason: str) -> None:
        logger.info("Training images are streamed through the datamodule's loader: %s.", reason)
        if self.updates_per_epoch is not None:
            logger.warning(
                "updates_per_epoch=%d has no effect, since the training images are not in memory: %s.",
                self.updates_per_epoch,
                reason,
            )
        # As Lightning prepares it, with a sampler for each process.
        loaders = training_loaders(trainer)
        reloads: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        loader = loaders[0] if len(loaders) == 1 and not reloads else None
        if type(loader) is DataLoader and isinstance(loader.dataset, Sized):
            self._plug_in(trainer, StreamedBatches(loader, self._run_seed, trainer))
        else:
            logger.info("A run that is resumed will see other batches: there is no single DataLoader to repeat.")

    def _plug_in(self, trainer: Trainer, batches: TrainingBatches) -> None:
        loop = trainer.fit_loop
        self._batches, self._source = batches, loop._data_source.instance
        loop._data_source.instance = batches
        loop._combined_loader = None
        # Lightning works out all its limits anew, from the feed's length.
        loop.setup_data()


def _has(trainer: Trainer, path: str) -> bool:
    try:
        attrgetter(path)(trainer)
    except AttributeError:
        return False
    return True


def _check_keeps_meaning(trainer: Any, loader: Any, device: torch.device) -> None:
    """Raise where batches from memory could differ from what the user set up."""
    reason = (
        _unfit_trainer(trainer)
        or _unfit_loader(loader)
        or _unfit_sampling(loader)
        or _unfit_augmentations(loader.dataset.augmentations, device)
    )
    if reason is not None:
        raise NotStoredError(reason)


def _unfit_trainer(trainer: Any) -> str | None:
    if trainer.limit_train_batches == 0:
        return "the Trainer's limit_train_batches is 0"
    if trainer.reload_dataloaders_every_n_epochs:
        return "the Trainer asks for new loaders, by reload_dataloaders_every_n_epochs"
    if trainer.world_size > 1 and not trainer._accelerator_connector.use_distributed_sampler:
        return "the Trainer's use_distributed_sampler is off"
    return None


def _unfit_loader(loader: Any) -> str | None:
    if type(loader) is not DataLoader:
        return f"there is no single DataLoader, but a {type(loader).__name__}"
    if not isinstance(loader.dataset, AnomalibDataset):
        return f"{type(loader.dataset).__name__} is no AnomalibDataset"
    if len(loader.dataset) == 0:
        return "there are none"
    if loader.collate_fn != ImageBatch.collate:
        return "batches are not collated by anomalib's function for images"
    return None


def _unfit_sampling(loader: DataLoader[Any]) -> str | None:
    sampler = loader.sampler
    if type(loader.batch_sampler) is not BatchSampler:
        return f"batches are sampled by {type(loader.batch_sampler).__name__}"
    if type(sampler) not in (RandomSampler, SequentialSampler, DistributedSampler):
        return f"images are sampled by {type(sampler).__name__}"
    if isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(loader.dataset)):  # type: ignore[arg-type]
        return "images are sampled with replacement, or not all of them"
    return "drop_last is on" if loader.drop_last else None


def _unfit_augmentations(augmentations: Any, device: torch.device) -> str | None:
    for step in steps(augmentations):
        if not isinstance(step, Transform):
            return f"the augmentation {type(step).__name__} is no transform of torchvision.transforms.v2"
        if not runs_on(step, device):
            return f"the augmentation {type(step).__name__} may not work on {device.type}"
    return None


def _shard(trainer: Trainer, sampler: Any) -> tuple[int, int]:
    """Rank and number of the processes that share a pass."""
    if isinstance(sampler, DistributedSampler):
        return sampler.rank, sampler.num_replicas
    shared = trainer.distributed_sampler_kwargs or {}
    return shared.get("rank", 0), shared.get("num_replicas", 1)


def _shuffles(sampler: Any) -> bool:
    return sampler.shuffle if isinstance(sampler, DistributedSampler) else isinstance(sampler, RandomSampler)
