# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The contract of this package's models: what all of them are told, and what all of them do."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from anomalib import LearningType
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchvision.transforms.v2 import Compose, Resize

from anomalib_ssl.checks import check_flag, check_part, check_size, check_whole
from anomalib_ssl.plain_data import plain
from anomalib_ssl.training.budget import UpdateBudget, expected_updates
from anomalib_ssl.training.checkpointing import CheckpointMixin
from anomalib_ssl.training.evaluation import EvaluationMixin
from anomalib_ssl.training.images.clean import num_training_images
from anomalib_ssl.training.images.feed import ImageFeed
from anomalib_ssl.training.images.held_out import HeldOut
from anomalib_ssl.training.images.memory import check_memory_limits
from anomalib_ssl.training.progress import LongRunNotice, UpdateProgressBar
from anomalib_ssl.training.refusals import (
    check_callbacks,
    check_depth,
    check_no_normalize,
    check_precision,
    check_sync_batchnorm,
    check_training_images,
)
from anomalib_ssl.training.schedule import cosine_schedule
from anomalib_ssl.training.scoring_state import ScoringState

LEAST_IMAGES = 2
"""Fewer have no spread that scores could be compared with."""


class SelfSupervisedMixin(CheckpointMixin, EvaluationMixin):
    """Training by updates in [0, 1] pixel space, then statistics of clean images; for classes before AnomalibModule.

    A model takes its own arguments and hands ``**training`` on to this constructor; then it draws its weights inside
    :meth:`drawing_weights` and assigns its torch model to ``self.model``. That model has ``fit(images, held_out)``,
    which estimates what scoring needs, and an ``exposure`` through which it sees what it scores; it gives an
    ``InferenceBatch`` in evaluation mode. Besides, a model implements :meth:`augment`, :meth:`losses` and
    ``configure_optimizers``.

    Every model of the package names ``AnomalibModule`` among its own bases, because anomalib lists only its direct
    subclasses; hence a mixin rather than a common base class.

    Args:
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes. Not used with a
            pre-processor of your own that resizes.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Processes share the second. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images. By default an epoch is one pass.
        held_out_share: Share of the training images that is not trained on: scores are standardised by them, and
            ``auto`` chooses by defects planted in them. At least one image and at most 100; 0 for none, and none of
            fewer than 20. Validation and test images are never used.
        equal_exposure: Whether images are brought to the mean brightness of the training images before they are scored.
            Switch it off where a change of brightness of the whole image is a defect.
        seed: If given, decides the weights that are drawn and all random numbers of training. Torch's global random
            state is left alone until training begins.
        pre_processor: anomalib pre-processor without ``Normalize``, or a flag for the default.
        post_processor: anomalib post-processor, or a flag for the default.
        evaluator: anomalib evaluator, or a flag for the default.
        visualizer: anomalib visualizer, or a flag for the default.

    Attributes:
        size: Height and width in pixels of the images that the model sees.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is outside its limits, or the pre-processor normalises.
    """

    ema_decay = 0.0

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        max_updates: int = 10_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        held_out_share: float = 0.1,
        equal_exposure: bool = True,
        seed: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        size = check_size("image_size", image_size)
        check_whole("max_updates", max_updates, 1)
        check_memory_limits(memory_limits)
        if updates_per_epoch is not None:
            check_whole("updates_per_epoch", updates_per_epoch, 1)
        check_flag("in_memory", in_memory)
        check_flag("equal_exposure", equal_exposure)
        if seed is not None:
            check_whole("seed", seed, 0, 2**63 - 1)
        check_part("pre_processor", pre_processor, nn.Module)
        check_part("post_processor", post_processor, nn.Module)
        check_part("evaluator", evaluator, Evaluator)
        check_part("visualizer", visualizer, Visualizer)
        super().__init__(
            pre_processor=self.configure_pre_processor(size) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        check_no_normalize(self.pre_processor)
        # anomalib loads checkpoints with weights_only=True.
        self.save_hyperparameters({name: plain(value) for name, value in self.hparams.items()})
        self.size = self.input_size or size
        self.max_updates = max_updates
        self.in_memory = in_memory
        self.memory_limits = (memory_limits[0], memory_limits[1])
        self.updates_per_epoch = updates_per_epoch
        self.equal_exposure = equal_exposure
        self.seed = seed
        self._held_out = HeldOut(held_out_share)

    @contextmanager
    def drawing_weights(self) -> Iterator[None]:
        """Draw weights from ``seed``, if there is one, and give the global random state back."""
        if self.seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            yield

    @property
    def trained_part(self) -> nn.Module:
        """The part of the model whose weights are averaged with ``ema_decay``."""
        return self.model

    def configure_callbacks(self) -> Sequence[Callback]:
        """Add what training needs to anomalib's callbacks; ``docs/architecture.md`` says why in this order."""
        self._scoring_state = ScoringState(self.trained_part, self.ema_decay)
        callbacks: list[Callback] = [
            *super().configure_callbacks(),  # type: ignore[misc]
            self._held_out,
            ImageFeed(self.in_memory, self.memory_limits, self.updates_per_epoch, self.seed),
            UpdateBudget(self.max_updates),
            self._scoring_state,
            LongRunNotice(),
        ]
        trainer = getattr(self, "_trainer", None)
        if trainer is not None and UpdateProgressBar.replaces_bar_of(trainer):
            callbacks.append(UpdateProgressBar())
        return callbacks

    def setup(self, stage: str) -> None:
        """Refuse what cannot be trained on, or scored in, before it starts.

        Raises:
            ValueError: If the Trainer's precision, callbacks or ``sync_batchnorm`` do not work, the pre-processor
                normalises, there are too few training images, or augmentations cannot take their size.
        """
        check_precision(self.trainer)
        if stage != "fit":
            return
        check_callbacks(self.trainer)
        check_sync_batchnorm(self.trainer, self.model)
        check_no_normalize(self.pre_processor)
        count = num_training_images(self.trainer)
        if count < LEAST_IMAGES:
            msg = (
                f"{type(self).__name__} needs at least {LEAST_IMAGES} training images, got {count}: scores "
                "compare an image with the spread of the normal ones."
            )
            raise ValueError(msg)
        if self.input_size is not None:
            # The run's random numbers stay as they are.
            with torch.random.fork_rng(devices=[]):
                self.try_augmentations(torch.zeros(2, 3, *self.input_size))

    def try_augmentations(self, images: torch.Tensor) -> None:
        """Augment images of the run's size before training starts: augmentations refuse sizes that they cannot take.

        Args:
            images: Shape (B, 3, H, W), on the CPU.
        """
        self._augmented(images)

    def augment(self, images: torch.Tensor) -> Any:
        """Make what is trained on of a batch of normal images; without gradients, in full precision.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            What :meth:`losses` takes: the images, unless a model says otherwise.
        """
        return images

    def losses(self, augmented: Any) -> Mapping[str, torch.Tensor]:
        """Give augmented images to the torch model, and compare what comes of them with what shall come of them.

        Args:
            augmented: What :meth:`augment` returned.

        Returns:
            ``loss``, which is minimised, and what shall be logged besides: scalars by name.
        """
        msg = f"{type(self).__name__} has neither losses nor a training_step of its own."
        raise NotImplementedError(msg)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Augment a batch of normal images, log what :meth:`losses` says of it as ``train_...``, return its loss."""
        del args, kwargs
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        losses = self.losses(self._augmented(images))
        for name, value in losses.items():
            self.log(f"train_{name}", value, prog_bar=name == "loss", batch_size=len(images))
        return losses["loss"]

    @torch.no_grad()
    def _augmented(self, images: torch.Tensor) -> Any:
        # In full precision, so that pixels that are not to be changed stay as they are.
        with torch.autocast(images.device.type, enabled=False):
            return self.augment(images)

    def on_train_start(self) -> None:
        """Train in training mode, also a model that was scored with before: Lightning leaves modes as they are."""
        super().on_train_start()
        self.model.train()
        self._images_checked = False

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> int | None:
        """Refuse images that cannot be scored, before the first update rather than after the last.

        Raises:
            ValueError: If they are of another size than the model's, their values are not in [0, 1], or their files
                have more than 8 bits.
        """
        if not self._images_checked:
            check_training_images(batch.image, self.size)  # type: ignore[arg-type]
            check_depth(batch.image_path or ())  # type: ignore[attr-defined]
            self._images_checked = True
        return super().on_train_batch_start(batch, batch_idx)

    def scheduled(
        self, optimizer: Optimizer, schedule: Callable[..., LambdaLR] = cosine_schedule, **keywords: Any
    ) -> OptimizerLRSchedulerConfig:
        """Give an optimiser with a schedule over the updates that will be run, as :func:`expected_updates` counts.

        Args:
            optimizer: The optimiser.
            schedule: A function of :mod:`~anomalib_ssl.training.schedule`; by default the rate falls to zero.
            **keywords: Its further arguments.
        """
        stepped = schedule(optimizer, partial(expected_updates, self.trainer), **keywords)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": stepped, "interval": "step"}}

    def held_out_images(self) -> Iterable[torch.Tensor]:
        """The images of the run that are not trained on, in batches (B, C, H, W) with values in [0, 1]."""
        return self._held_out.images(self.trainer, self)

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
