# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Budgets in minutes of training: how many updates these are is measured before the run, and again and again in it."""

import time
from collections.abc import Callable
from typing import Any

import torch
from anomalib.engine import Engine
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_ssl.comparison.building import build
from anomalib_ssl.comparison.specification import Specification

WARM_UP = 2
"""Batches that are not timed: the first ones make buffers and choose algorithms."""

TIMED = 8
"""Updates that are timed at most."""

SHARE = 0.05
"""Part of the budget that timing may take before it ends early."""

APART = 0.02
"""Part of the budget after which the rate is measured again."""


class TrainingTime(Callback):
    """Measures the time of training without validations, and ends training where a limit is exceeded.

    Args:
        limit: Most seconds.

    Attributes:
        seconds: Seconds from the start of the first to the end of the last update, without validations.
        ends: Such seconds at the end of each batch.
        updates: Updates made by then; fewer than batches where gradients are accumulated.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.ends: list[float] = []
        self.updates: list[int] = []
        self._since = 0.0
        self._before = 0.0

    @property
    def seconds(self) -> float | None:
        """None where there was no update."""
        return self.ends[-1] if self.ends else None

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        del args, kwargs
        self.ends, self.updates = [], []
        self._before, self._since = 0.0, time.perf_counter()

    def on_validation_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        del args, kwargs
        if trainer.state.fn == TrainerFn.FITTING:
            self._before += time.perf_counter() - self._since

    def on_validation_end(self, *args: Any, **kwargs: Any) -> None:
        """Go on."""
        del args, kwargs
        self._since = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Note the time; where it is up, ask Lightning to stop, which makes it validate first."""
        del args, kwargs
        device = trainer.strategy.root_device
        if self.limit is not None and device.type != "cpu":
            torch.accelerator.synchronize(device)  # what was only asked for has not been done yet
        self.ends.append(self._before + time.perf_counter() - self._since)
        self.updates.append(trainer.global_step)
        if self.limit is not None and self.ends[-1] > self.limit:
            trainer.check_val_every_n_epoch = None
            trainer.should_stop = True


class TimeBudget(TrainingTime):
    """Lets training end when its time is up, and the schedule of its learning rate with it.

    Other work on the machine comes and goes. So the Trainer's limit is set anew in the course of the run, to what fits
    into the time that is left at the rate of the last updates.

    Args:
        limit: Seconds of training without validations.
    """

    limit: float

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        super().on_train_start(*args, **kwargs)
        self._measured = (0.0, 0)

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Count the updates that are left, if it is time."""
        super().on_train_batch_end(trainer, *args, **kwargs)
        now, done = self.ends[-1], self.updates[-1]
        seconds, made = now - self._measured[0], done - self._measured[1]
        if seconds < APART * self.limit or not made:
            return
        self._measured = (now, done)
        loop = trainer.fit_loop
        total = done + max(round((self.limit - now) * made / seconds), 0)
        if loop.max_epochs == loop.max_steps:  # as an epoch is at least one update, that was no limit of its own
            loop.max_epochs = total
        loop.epoch_loop.max_steps = total


def updates_within(minutes: float, make: Callable[[int], Specification], engine: Callable[..., Engine]) -> int:
    """Count the updates of a training that takes so long, from the rate of its first ones.

    Args:
        minutes: Minutes of training.
        make: Gives the settings for a number of updates.
        engine: Makes an engine with further arguments of the Trainer.

    Returns:
        At least 1.
    """
    clock = TrainingTime(limit=60 * minutes * SHARE)
    built = build(make(WARM_UP + TIMED))
    # Nothing is scored with what is thrown away, and statistics may take longer than the updates.
    built.model.fit_statistics = lambda *_: None  # type: ignore[assignment]
    engine(callbacks=[clock], limit_val_batches=0, logger=False).fit(model=built.model, datamodule=built.datamodule)
    first = min(WARM_UP, len(clock.ends) - 1)  # one batch has to be timed, if it was the only one
    elapsed = clock.ends[-1] - [0.0, *clock.ends][first]
    made = clock.updates[-1] - [0, *clock.updates][first]
    return max(1, round(60 * minutes / elapsed * max(made, 1)))
