# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Showing how far a run is, in updates."""

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar

from anomalib_ssl.training.budget import expected_updates, total_updates

logger = logging.getLogger(__name__)


class UpdateProgressBar(RichProgressBar):
    """Lightning's rich progress bar over the updates of the whole run: done, total, rate and time left.

    It takes the place of Lightning's default bar, which counts the few batches of an epoch; a bar of the user's own
    choice stays. It is drawn anew at most twice a second, and after the last update: reading the loss at every update
    would make the host wait for the device each time.
    """

    interval = 0.5
    """Least time in seconds between two drawings during training."""

    _drawn = -math.inf

    @classmethod
    def replaces_bar_of(cls, trainer: Trainer) -> bool:
        """Whether the Trainer shows Lightning's default bar, or this one already."""
        return any(type(callback) in (RichProgressBar, cls) for callback in trainer.callbacks)  # type: ignore[attr-defined]

    @property
    def total_train_batches(self) -> int:
        """Length of the bar: all updates of the run."""
        return total_updates(self.trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar with the first epoch; later epochs go on with it."""
        if self.train_progress_bar_id is None:
            super().on_train_epoch_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Advance to the number of updates done, if it is time."""
        del batch_idx
        now = time.monotonic()
        if now - self._drawn < self.interval and trainer.global_step < total_updates(trainer):
            return
        super().on_train_batch_end(trainer, pl_module, outputs, batch, trainer.global_step - 1)
        # Drawing may have waited for the device.
        self._drawn = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it to the updates to draw: there are only a few of them in an epoch."""

    def _get_train_description(self, current_epoch: int) -> str:
        del current_epoch
        return f"{'Updates':{len(self.validation_description)}}"


class LongRunNotice(Callback):
    """Say so, soon after the start, when training will take more than an hour, and how to shorten it."""

    warmup = 2
    """Updates before the clock starts."""

    updates, patience = 20, 60.0
    """The rate is measured over so many updates, or over so many seconds if these pass first."""

    def __init__(self) -> None:
        self._first_update = 0
        self._started: float | None = None
        self._done = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note where the run begins, which is not zero when it is resumed."""
        del pl_module
        self._first_update = trainer.global_step + self.warmup
        self._started = None
        self._done = False

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Measure the rate once, then judge."""
        del args, kwargs
        measured = trainer.global_step - self._first_update
        if self._done or measured < 0:
            return
        if self._started is None:
            self._started = time.monotonic()
            return
        seconds = time.monotonic() - self._started
        if measured < 1 or (measured < self.updates and seconds < self.patience):
            return
        self._done = True
        rate = measured / seconds
        total = expected_updates(trainer)
        left = (total - trainer.global_step) / rate
        if left > 3600:
            logger.warning(
                "This run will take about %.1f hours: %d updates at %.2f updates/s. A smaller budget shortens it, for "
                "example --model.max_updates %d for one hour (max_updates=%d in Python); so do smaller images "
                "(image_size) and a smaller train_batch_size.",
                left / 3600,
                total,
                rate,
                *[max(int(rate * 3600), 1)] * 2,
            )
