# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Trained networks that several jobs score with: those whose settings differ only in how they score."""

import io
from pathlib import Path
from typing import Any

import torch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback, Trainer

from anomalib_ssl.comparison.store import write_atomically
from anomalib_ssl.scoring import Fitted


class NoTraining(Callback):
    """Ends training before its first update; statistics of normal images are fitted as after any training."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Ask Lightning to stop."""
        del pl_module
        trainer.should_stop = True


class SharedWeights(NoTraining):
    """Loads a network that another job has trained, in place of training. It belongs to the Trainer's own callbacks.

    Args:
        path: File of :func:`save_weights`.

    Attributes:
        training: What the job that trained noted of the training.
    """

    def __init__(self, path: Path) -> None:
        content = torch.load(path, map_location="cpu", weights_only=True)
        self._weights: dict[str, torch.Tensor] = content["weights"]
        self.training: dict[str, Any] = content["training"]

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Load the weights before averages are started from them."""
        del trainer
        if stage == "fit":
            pl_module.load_state_dict(self._weights, strict=False)


def save_weights(path: Path, model: AnomalibModule, training: dict[str, Any]) -> None:
    """Write what is trained of a model, without what is fitted to normal images afterwards.

    Args:
        path: File to write.
        model: The model after its training.
        training: What is to be noted of it, as plain data.
    """
    fitted = {
        f"{name}.{buffer}"
        for name, part in model.named_modules()
        if isinstance(part, Fitted)
        for buffer, _ in part.named_buffers(recurse=False)
    }
    weights = {name: value for name, value in model.model.state_dict(prefix="model.").items() if name not in fitted}
    content = io.BytesIO()
    torch.save({"weights": weights, "training": training}, content)
    write_atomically(path, content.getvalue())
