# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Where the time of a training update goes, by Lightning's own profiler."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.profilers import SimpleProfiler

from harness.measure import synchronizer

AUGMENTATION = "augmentation"


class SynchronizedProfiler(SimpleProfiler):
    """Lightning's profiler, which here waits for the device whenever it reads the clock.

    Args:
        device: The device that trains.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.synchronize = synchronizer(device)

    def start(self, action_name: str) -> None:
        """Start the clock of an action."""
        self.synchronize()
        super().start(action_name)

    def stop(self, action_name: str) -> None:
        """Stop the clock of an action."""
        self.synchronize()
        super().stop(action_name)

    def summary(self) -> str:
        """Nothing: Lightning would print it after the run."""
        return ""

    def seconds(self, part: str) -> float:
        """Total duration of the actions whose names contain ``part``."""
        return sum(sum(durations) for action, durations in self.recorded_durations.items() if part in action)


class ForgetWarmup(Callback):
    """Empties a profiler after some updates.

    Args:
        profiler: The profiler.
        updates: After how many.
    """

    def __init__(self, profiler: SimpleProfiler, updates: int) -> None:
        self.profiler = profiler
        self.updates = updates

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Forget what was recorded, once."""
        del args, kwargs
        if trainer.global_step == self.updates:
            self.profiler.recorded_durations.clear()


def profiled(
    function: Callable[..., tuple[torch.Tensor, torch.Tensor]], profiler: SimpleProfiler
) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Make a profiler record a function as the augmentation."""

    def call(*args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with profiler.profile(AUGMENTATION):
            return function(*args, **kwargs)

    return call
