# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a model is scored with: its averaged weights, and statistics of normal images fitted to these very weights."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn, TrainerStatus
from torch import nn

from anomalib_ssl.scoring import Fitted
from anomalib_ssl.training.averaging import WeightAverage, Weights, copied_weights, load_weights
from anomalib_ssl.training.images.clean import CleanTrainingImages

STATE = "anomalib_ssl_training_weights"
"""Key of a checkpoint with what resuming needs of averaged weights; its ``state_dict`` has what is scored with."""


class ScoringState(Callback):
    """Bring the model into the state it is scored in: for validation, for every checkpoint, and at the end of training.

    The weights for scoring are the moving average of the weights in training, or these themselves; statistics of the
    clean training images are fitted to them. The weights in training come back before the next update, and after the
    last one not at all. So validation, tests, exports and every checkpoint have statistics of their own weights,
    whenever it is written. Only one that is written while a run breaks off holds none, since its images may be gone; a
    model that is loaded from it refuses to score and says so, and training goes on from it as from any other.

    Args:
        module: The part of the model that is trained.
        decay: Decay of the moving average, in [0, 1); 0 takes the weights as they are.
    """

    def __init__(self, module: nn.Module, decay: float = 0.0) -> None:
        self.module = module
        self.decay = decay
        self._forget()

    def _forget(self) -> None:
        self._average: WeightAverage | None = None
        # Those in training, while others are in the module.
        self._training: Weights | None = None
        self._updates = 0
        self._fitted_at: int | None = None
        self._resumed: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the average from the weights at hand, or go on with the run that is resumed."""
        del trainer, pl_module
        self._fitted_at = None
        if self._resumed:
            # As after a validation: with the weights for scoring in the module.
            self._training = self._resumed["training"]
            self._updates = self._resumed["updates"]
        if self.decay > 0:
            self._average = WeightAverage(self.module, self.decay, self._resumed.get("average"))
        self._resumed = {}

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Put the weights in training back."""
        del trainer, args, kwargs
        # A batch changes batch norm's statistics, also where no update follows it.
        self._fitted_at = None
        if self._training is not None:
            load_weights(self.module, self._training)
            self._training = None

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Update the average after each optimiser update."""
        del args, kwargs
        self._catch_up(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the model into the state for scoring before a validation within training."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._enter(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do so with the last weights, and save them, where there is no validation to do it."""
        if self._enter(trainer, pl_module):
            for callback in trainer.checkpoint_callbacks:
                callback.on_validation_end(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release all copies; what is in the model stays there."""
        del trainer, pl_module
        if stage == "fit":
            self._forget()

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take note of what is needed to resume training."""
        del trainer, pl_module
        self._resumed = checkpoint.get(STATE, {})

    def complete(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """See to it that a checkpoint holds what scoring needs, or says that it does not, and what resuming needs."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.state.status == TrainerStatus.FINISHED:
            return
        self._catch_up(trainer)
        if trainer.state.status != TrainerStatus.INTERRUPTED:
            if self._enter(trainer, pl_module):
                checkpoint["state_dict"] = trainer.strategy.lightning_module_state_dict()
        elif self._fitted_at != trainer.global_step:
            checkpoint["state_dict"] |= _unfitted(pl_module)
        if self._average is not None:
            checkpoint[STATE] = {
                "training": copied_weights(self.module) if self._training is None else self._training,
                "average": self._average.weights,
                "updates": self._updates,
            }

    def _catch_up(self, trainer: Trainer) -> None:
        """Take the last update into the average; a checkpoint may be asked for before this callback's turn."""
        if self._average is not None and trainer.global_step > self._updates:
            self._average.update(self.module, trainer.global_step)
        self._updates = trainer.global_step

    def _enter(self, trainer: Trainer, pl_module: Any) -> bool:
        """Bring the model into the state for scoring, unless it is; say whether anything was done."""
        if self._fitted_at == trainer.global_step:
            return False
        if self._average is not None:
            if self._training is None:
                self._training = copied_weights(self.module)
            load_weights(self.module, self._average.weights)
        if trainer.world_size > 1:
            # Running statistics of batch norm are each process' own since the last update.
            for buffer in pl_module.model.buffers():
                torch.distributed.broadcast(buffer, 0)
        images = CleanTrainingImages(trainer, pl_module.pre_processor, pl_module.device)
        pl_module.fit_statistics(images, pl_module.held_out_images())
        self._fitted_at = trainer.global_step
        return True


def _unfitted(module: nn.Module) -> dict[str, torch.Tensor]:
    """Entries of a state dict by which what is fitted to images becomes unfitted."""
    fitted = {name: part for name, part in module.named_modules() if isinstance(part, Fitted)}
    return {f"{name}.num_fitted": torch.zeros_like(part.num_fitted) for name, part in fitted.items()}
