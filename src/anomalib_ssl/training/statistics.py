# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Statistics of the trained network on clean training images, kept in step with its weights."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_ssl.training.clean_images import CleanTrainingImages


class FitStatistics(Callback):
    """Let the model fit its statistics before each validation, and at the end where nothing validates.

    The model's ``fit_statistics`` gets the clean training images, to go through as often as it needs. Running it before
    validation means that every checkpoint holds statistics of its own weights.
    """

    def __init__(self) -> None:
        self._fitted_at: int | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what was fitted in an earlier run."""
        del trainer, pl_module
        self._fitted_at = None

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit before the validation scores its images."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._fit(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fit on the last weights, and save them, where there is no validation to do so."""
        if self._fitted_at != trainer.global_step:
            self._fit(trainer, pl_module)
            for callback in trainer.checkpoint_callbacks:
                callback.on_validation_end(trainer, pl_module)

    def _fit(self, trainer: Trainer, pl_module: Any) -> None:
        images = CleanTrainingImages(trainer, pl_module.pre_processor, pl_module.device)
        pl_module.fit_statistics(images)
        self._fitted_at = trainer.global_step
