# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The training budget, counted in updates."""

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from anomalib_ssl.checks import check_whole
from anomalib_ssl.scoring.fitted import is_unfitted

logger = logging.getLogger(__name__)

LIGHTNING_DEFAULT_EPOCHS = 1000
"""What Lightning's Trainer uses where neither ``max_epochs`` nor ``max_steps`` nor ``max_time`` is given."""


VALIDATIONS, LEAST_INTERVAL = 5, 100
"""Validations over a run, and the fewest updates between two of them."""


class UpdateBudget(Callback):
    """End training after a number of optimiser updates, and validate a few times on the way.

    Self-supervised methods ask for tens of thousands of updates on sets of a few batches, so that epochs are no useful
    unit. Training ends at the first of ``max_updates`` and what the Trainer was given (``max_epochs``, ``max_steps``,
    ``max_time``); the Trainer's limits are only ever lowered. Lightning's own default of 1000 epochs, in force where
    nothing was given, is lifted.

    Where the Trainer's validation settings are Lightning's defaults (once per epoch), validation, and with it the
    checkpoint, happens 5 times over the run instead, at least 100 updates apart.
    Whatever the settings, the last weights are always validated, since anomalib's thresholds come from there.

    Args:
        max_updates: Largest number of optimiser updates, at least 1.

    Raises:
        ValueError: If ``max_updates`` is less than 1.
    """

    def __init__(self, max_updates: int) -> None:
        check_whole("max_updates", max_updates, 1)
        self.max_updates = max_updates
        self._validated_at: int | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lower the Trainer's limits before the optimiser and its schedule are built.

        Raises:
            RuntimeError: If the Trainer has made its updates in an earlier fit, of another model.
        """
        if stage != "fit":
            return
        self._validated_at = None
        loop = trainer.fit_loop
        epochs, steps = loop.max_epochs, loop.max_steps
        ended = 0 < steps <= trainer.global_step or 0 < (epochs or 0) <= trainer.current_epoch
        if ended and is_unfitted(pl_module):
            msg = (
                f"This Engine has trained a model for {trainer.global_step} updates and counts on from there, so that "
                f"{type(pl_module).__name__} would not be trained at all: make a new Engine for each model."
            )
            raise RuntimeError(msg)
        loop.epoch_loop.max_steps = self.max_updates if steps == -1 else min(steps, self.max_updates)
        if epochs == -1 or (epochs == LIGHTNING_DEFAULT_EPOCHS and steps == -1):
            # An epoch is at least one update, so this is no limit of its own; unlike -1 it is shown as a number.
            loop.max_epochs = loop.max_steps

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Spread the validations over the updates that will really be run."""
        total = total_updates(trainer)
        logger.info("%s trains for up to %d updates.", type(pl_module).__name__, total)
        if _is_dev_run(trainer) or not _validates_every_epoch(trainer):
            return
        interval = max(math.ceil(total / VALIDATIONS), LEAST_INTERVAL)
        trainer.check_val_every_n_epoch = None
        batches = int(trainer.num_training_batches)
        # The last update of an epoch may be of fewer batches than the others.
        per_update = batches / math.ceil(batches / trainer.accumulate_grad_batches)
        trainer.val_check_interval = round(interval * per_update)
        trainer.val_check_batch = trainer.val_check_interval

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """After the last update, ask Lightning to stop, which makes it validate first."""
        del args, kwargs
        if not _is_dev_run(trainer) and trainer.global_step >= total_updates(trainer):
            trainer.check_val_every_n_epoch = None
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take note of it."""
        del pl_module
        self._validated_at = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate where the run ended without it: by a callback between two validations, or against its minimum."""
        del pl_module
        if trainer.enable_validation and not _is_dev_run(trainer) and self._validated_at != trainer.global_step:
            trainer.validating = True
            trainer.fit_loop.epoch_loop.val_loop.run()
            trainer.training = True


def total_updates(trainer: Trainer) -> int:
    """Number of optimiser updates at which the run ends, from the Trainer's limits as they stand."""
    return int(trainer.estimated_stepping_batches)


def expected_updates(trainer: Trainer) -> int:
    """Number of optimiser updates after which the run will end, as far as can be known by now.

    Where the Trainer was given a ``max_time``, that is what fits into it at the mean rate so far, if it is less than
    :func:`total_updates`: a schedule over these updates ends with the time. Several processes, whose clocks differ and
    whose weights must not, go by the latter alone.
    """
    total, done = total_updates(trainer), trainer.global_step
    if done == 0 or trainer.world_size > 1:
        return total
    for timer in (callback for callback in trainer.callbacks if isinstance(callback, Timer)):  # type: ignore[attr-defined]
        passed, left = timer.time_elapsed(), timer.time_remaining()
        if left is not None and passed > 0:
            total = min(total, math.ceil(done * (1 + max(left, 0.0) / passed)))
    return total


def _is_dev_run(trainer: Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _validates_every_epoch(trainer: Trainer) -> bool:
    # An interval of the integer 1 would be one batch, not one epoch.
    interval = trainer.val_check_interval
    return trainer.check_val_every_n_epoch == 1 and isinstance(interval, float) and interval == 1.0
