# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Watching a training run from inside: when each update ended, and what it learned."""

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class UpdateClock(Callback):
    """Notes the end of each update and its loss, without making the host wait for the device.

    Runs of ``anomalib``'s command line are given it by its path; the last one made is kept as ``latest``.

    Args:
        warmup: Updates at the start of the run that do not count.
    """

    latest: "UpdateClock"

    def __init__(self, warmup: int = 0) -> None:
        self.warmup = warmup
        self.ends: list[float] = []
        self.after_validation: set[int] = set()
        self.losses: list[torch.Tensor] = []
        self.metrics: dict[str, float] = {}
        UpdateClock.latest = self

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Note an update."""
        del trainer, pl_module, args, kwargs
        self.ends.append(time.perf_counter())
        self.losses.append(outputs["loss"].detach())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the next update ends after a validation, whose time is not the update's."""
        del trainer, pl_module
        self.after_validation.add(len(self.ends))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics of the test."""
        del pl_module
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}

    @property
    def intervals(self) -> list[float]:
        """Seconds from one update's end to the next one's, without warm-up and without validations.

        What an epoch costs at its start, such as new worker processes, is in them.
        """
        return [
            self.ends[index] - self.ends[index - 1]
            for index in range(max(self.warmup, 1), len(self.ends))
            if index not in self.after_validation
        ]

    @property
    def seconds_per_update(self) -> float:
        """Mean of the intervals."""
        return sum(self.intervals) / len(self.intervals)

    @property
    def final_loss(self) -> float:
        """Mean loss of the last tenth of the run."""
        last = self.losses[-max(len(self.losses) // 10, 1) :]
        return torch.stack(last).mean().item()


def feed_name(in_memory: bool, workers: int) -> str:
    """Name a way to feed training in the reports."""
    return f"{'images in memory' if in_memory else 'stock loader'}, {workers} worker processes"
