# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Budgets in minutes of training: how many updates these are is measured all the while."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn

FIRST = 10
"""Updates after the first one whose rate is measured first, unless :data:`APART` passes before."""

APART = 0.02
"""Part of the budget after which it is measured, again and again."""


class TrainingTime(Callback):
    """Measures the time of training without validations.

    Attributes:
        seconds: Seconds from the start of the first to the end of the last update, without validations.
        ends: Such seconds at the end of each batch.
        updates: Updates made by then; fewer than batches where gradients are accumulated.
    """

    def __init__(self) -> None:
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
        """Note the time."""
        del args, kwargs
        self.ends.append(self._before + time.perf_counter() - self._since)
        self.updates.append(trainer.global_step)


class TimeBudget(TrainingTime):
    """Lets training end when its time is up, and the schedule of its learning rate with it.

    How long an update takes is not known before, and other work on the machine comes and goes. So the Trainer's limit,
    out of reach at first, is set anew in the course of the run, to what fits into the time that is left at the rate of
    the last updates.

    Args:
        limit: Seconds of training without validations.
    """

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        super().on_train_start(*args, **kwargs)
        self._measured = (0.0, 0)
        self._first: tuple[float, int] | None = None

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Count the updates that are left, if it is time."""
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.accelerator.synchronize(device)  # what was only asked for has not been done yet
        super().on_train_batch_end(trainer, *args, **kwargs)
        loop = trainer.fit_loop
        now, done = self.ends[-1], self.updates[-1]
        if done and self._first is None:
            # What is done before an update, once, is in the time of the first: it says nothing of the others.
            self._first = self._measured = (now, done)
        seconds, made = now - self._measured[0], done - self._measured[1]
        left = max(self.limit - now, 0.0)
        begins = self._measured == self._first and made >= FIRST
        # Of a short time the rate may be far off: it is measured again rather than a run ended early by it.
        due = made and (begins or seconds >= APART * self.limit or done >= loop.epoch_loop.max_steps)
        if left and not due:
            return
        self._measured = (now, done)
        total = done + (round(left * made / seconds) if left else 0)
        if loop.max_epochs == loop.max_steps:  # as an epoch is at least one update, that was no limit of its own
            loop.max_epochs = total
        loop.epoch_loop.max_steps = total
