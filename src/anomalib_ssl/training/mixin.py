# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the models of this package share as anomalib modules."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.data.transforms.utils import extract_transforms_by_type
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, seed_everything
from omegaconf import OmegaConf
from torch import nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_ssl.checks import check_number
from anomalib_ssl.training.budget import UpdateBudget
from anomalib_ssl.training.clean_images import num_training_images
from anomalib_ssl.training.in_memory import InMemoryFeed
from anomalib_ssl.training.memory import check_memory_limits
from anomalib_ssl.training.progress import LongRunNotice, UpdateProgressBar
from anomalib_ssl.training.statistics import FitStatistics

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

    Base = AnomalibModule
else:
    Base = object

ONNX_OPSET = 18
"""Operator set of exported graphs."""


class SelfSupervisedMixin(Base):
    """Training by updates in [0, 1] pixel space, then statistics of clean images; for classes before AnomalibModule.

    A model calls :meth:`prepare_training` and implements ``training_step``, ``configure_optimizers`` and
    :meth:`fit_statistics`. For ``compiled`` it augments images inside ``compiled_augmentations(self.compiled)`` and
    calls :meth:`train_forward` in place of its torch model.

    Every model of the package names ``AnomalibModule`` among its own bases, because anomalib lists only its direct
    subclasses; hence a mixin rather than a common base class.
    """

    max_updates: int
    in_memory: bool
    memory_limits: tuple[float, float]
    updates_per_epoch: int | None
    compiled: bool
    min_training_images = 2
    _compiled_forward: Any = None

    def prepare_training(
        self,
        max_updates: int,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        seed: int | None = None,
    ) -> None:
        """Check and keep what all models are told about their training; seed, before the weights are drawn.

        Args:
            max_updates: Training budget in optimiser updates.
            in_memory: See :class:`~anomalib_ssl.training.in_memory.InMemoryFeed`.
            memory_limits: Likewise.
            updates_per_epoch: Likewise.
            compiled: Whether network and augmentations run through ``torch.compile`` in training.
            seed: If given, seeds Python, NumPy and torch.

        Raises:
            ValueError: If an argument is outside its limits, or the pre-processor normalises.
        """
        check_no_normalize(self.pre_processor)
        check_number("max_updates", max_updates, 1)
        check_memory_limits(memory_limits)
        if updates_per_epoch is not None:
            check_number("updates_per_epoch", updates_per_epoch, 1)
        self.max_updates = max_updates
        self.in_memory = in_memory
        self.memory_limits = (memory_limits[0], memory_limits[1])
        self.updates_per_epoch = updates_per_epoch
        self.compiled = compiled
        if seed is not None:
            seed_everything(seed, workers=True)

    @abstractmethod
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Estimate what scoring needs from clean training images, given as batches (B, C, H, W) in [0, 1].

        The iterable may be gone through more than once.
        """

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add the training feed, the update budget, the statistics and the progress display to anomalib's callbacks."""
        callbacks: list[Callback] = [
            *super().configure_callbacks(),  # type: ignore[misc]
            InMemoryFeed(self.in_memory, self.memory_limits, self.updates_per_epoch),
            UpdateBudget(self.max_updates),
            FitStatistics(),
            LongRunNotice(),
        ]
        trainer = getattr(self, "_trainer", None)
        if trainer is not None and UpdateProgressBar.replaces_bar_of(trainer):
            callbacks.append(UpdateProgressBar())
        return callbacks

    def setup(self, stage: str) -> None:
        """Refuse what cannot be trained on before training starts.

        Raises:
            ValueError: If the pre-processor normalises, or there are too few training images.
        """
        if stage != "fit":
            return
        check_no_normalize(self.pre_processor)
        count = num_training_images(self.trainer)
        if count < self.min_training_images:
            msg = (
                f"{type(self).__name__} needs at least {self.min_training_images} training images, got {count}: scores "
                "compare an image with the spread of the normal ones."
            )
            raise ValueError(msg)

    def train_forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the torch model in training, through ``torch.compile`` if ``compiled`` is set."""
        if not self.compiled:
            return self.model(*args, **kwargs)
        if self._compiled_forward is None:
            self._compiled_forward = torch.compile(self.model.forward)
        return self._compiled_forward(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """Leave compiled code out of copies and files."""
        return {**super().__getstate__(), "_compiled_forward": None}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep hyper-parameters as plain data: anomalib loads checkpoints with ``weights_only=True``.

        A model that ``get_model`` builds from a dictionary gets OmegaConf lists for its tuples.
        """
        super().on_save_checkpoint(checkpoint)
        checkpoint["hyper_parameters"] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in checkpoint["hyper_parameters"].items()
        }

    def validation_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score a validation batch."""
        del args, kwargs
        return self._score(batch)

    def test_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score a test batch."""
        del args, kwargs
        return self._score(batch)

    def predict_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score a batch to predict."""
        del args, kwargs
        return self._score(batch)

    def _score(self, batch: Batch) -> Batch:
        # Scores compare small distances; mixed precision would add noise that the exported model does not have.
        with torch.autocast(self.device.type, enabled=False):
            return batch.update(**self.model(batch.image)._asdict())

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX as anomalib does, of operator set 18 unless ``opset_version`` says otherwise.

        PyTorch writes these models in 18. With anomalib's default, 14, it tries to convert them, prints a traceback and
        leaves them in 18.
        """
        path: Path = super().to_onnx(*args, **{"opset_version": ONNX_OPSET, **kwargs})
        return path

    @property
    def progress_notes(self) -> Mapping[str, str]:
        """Words by name that the progress bar shows before the metrics."""
        return {}

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """Trainer arguments that anomalib must set: no limit is among them, so the user's are obeyed.

        The check run before training is off, since there is nothing to score with yet.
        """
        return {"num_sanity_val_steps": 0}

    @property
    def learning_type(self) -> LearningType:
        """Normal images only."""
        return LearningType.ONE_CLASS

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:
        """Resize only: augmentation happens in [0, 1] pixel space, and the torch model normalises by itself.

        Args:
            image_size: Height and width in pixels. Defaults to (256, 256).
        """
        return PreProcessor(transform=Compose([Resize(image_size or (256, 256), antialias=True)]))


def check_no_normalize(pre_processor: nn.Module | None) -> None:
    """Raise if a pre-processor normalises its images.

    Raises:
        ValueError: If the transform contains ``Normalize``.
    """
    transform = getattr(pre_processor, "transform", None)
    if transform is not None and extract_transforms_by_type(transform, Normalize):
        msg = (
            "pre_processor must not contain Normalize: images are augmented in [0, 1] pixel space and normalised "
            f"inside the model. Got {transform}."
        )
        raise ValueError(msg)
