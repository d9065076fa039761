# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Scoring with other weights than those that are being trained: averaged ones, and of these the best so far."""

import logging
import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from anomalib_ssl.checks import check_number
from anomalib_ssl.training.ema import WeightAverage, Weights, copied_weights, load_weights
from anomalib_ssl.training.held_out import HeldOut

logger = logging.getLogger(__name__)

STATE = "anomalib_ssl_evaluation_weights"
"""Key of a checkpoint with what is needed to resume training; its ``state_dict`` has the weights for scoring."""


class EvaluationWeights(Callback):
    """Swap in, for validation and at the end of training, the weights that the model shall be scored with.

    These are the moving average of the weights in training; and with ``select_best``, of the averages at all
    validations so far, the one with the least ``held_out_loss``. Where images are held out, the model's
    ``held_out_metrics(images)`` is called either way, and what it returns is logged.

    Everything that follows in a validation sees the weights that were swapped in: statistics, thresholds, metrics and
    the checkpoint that is saved after it. The weights in training come back before the next update, and after the last
    one not at all. So every checkpoint, test and export has the weights for scoring; a checkpoint keeps what is needed
    to resume training besides.

    Must come before :class:`~anomalib_ssl.training.statistics.FitStatistics` in the list of callbacks.

    Args:
        module: The part of the model that is trained.
        decay: Decay of the moving average in [0, 1); 0 takes the weights as they are.
        held_out: The images that were set aside, if any.
        select_best: Whether the best of all validations is kept, rather than the last.

    Raises:
        ValueError: If ``decay`` is outside its limits.
    """

    def __init__(
        self, module: nn.Module, decay: float = 0.0, held_out: HeldOut | None = None, select_best: bool = True
    ) -> None:
        check_number("ema_decay", decay, 0, 1 - 1e-9)
        self.module = module
        self.decay = decay
        self.held_out = held_out
        self.select_best = select_best
        self._forget()

    def _forget(self) -> None:
        self._average: WeightAverage | None = None
        # Those in training, while others are in the module.
        self._training: Weights | None = None
        self._best: Weights | None = None
        self._best_loss = math.inf
        self._updates = 0
        self._metrics: dict[str, float] = {}
        self._resumed: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the average from the weights at hand, or go on with the run that is resumed."""
        del trainer, pl_module
        if self.decay > 0:
            self._average = WeightAverage(self.module, self.decay, self._resumed.get("average"))
        if self._resumed:
            # As after a validation: with the weights for scoring in the module.
            self._training = self._resumed["training"]
            self._updates = self._resumed["updates"]
            if self._resumed["best_loss"] is not None and self.select_best:
                self._best, self._best_loss = copied_weights(self.module), self._resumed["best_loss"]
            self._resumed = {}

    def on_train_batch_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Put the weights in training back."""
        del trainer, args, kwargs
        if self._training is not None:
            load_weights(self.module, self._training)
            self._training = None

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Update the average after each optimiser update."""
        del args, kwargs
        if self._average is not None and trainer.global_step > self._updates:
            self._average.update(self.module, trainer.global_step)
        self._updates = trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap in the weights for scoring."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._swap_in(trainer, pl_module)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was measured; Lightning does not take it any earlier."""
        if trainer.state.fn == TrainerFn.FITTING and self._metrics:
            pl_module.log_dict(self._metrics)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Swap in the weights for scoring where no validation has done so since the last update."""
        self._swap_in(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the weights for scoring as those of the model, and those in training besides."""
        del trainer
        average = None if self._average is None else self._average.weights
        training = self._training
        if training is None:
            training = copied_weights(self.module)
            scoring = self._best or average or training
            prefix = next(name for name, module in pl_module.named_modules() if module is self.module)
            checkpoint["state_dict"] |= {f"{prefix}.{name}": value for name, value in scoring.items()}
        checkpoint[STATE] = {
            "training": training,
            "average": average,
            # The best weights themselves are those for scoring.
            "best_loss": None if self._best is None else self._best_loss,
            "updates": self._updates,
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take note of what is needed to resume training."""
        del trainer, pl_module
        self._resumed = checkpoint.get(STATE, {})

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Release all copies; what is in the model stays there."""
        del trainer, pl_module
        if stage == "fit":
            self._forget()

    def _swap_in(self, trainer: Trainer, pl_module: Any) -> None:
        if self._training is not None:
            return
        self._training = copied_weights(self.module)
        if self._average is not None:
            load_weights(self.module, self._average.weights)
        if self.held_out is not None and self.held_out.is_active:
            self._judge(trainer, pl_module, self.held_out)

    def _judge(self, trainer: Trainer, pl_module: Any, held_out: HeldOut) -> None:
        measured = pl_module.held_out_metrics(held_out.images(trainer, pl_module))
        metrics = {f"held_out_{name}": float(value) for name, value in measured.items()}
        # All processes shall choose alike, whatever their rounding.
        self._metrics = trainer.strategy.broadcast(metrics)
        described = ", ".join(f"{name} {value:.4g}" for name, value in self._metrics.items())
        logger.info("After %d updates: %s.", trainer.global_step, described)
        if not self.select_best:
            return
        loss = self._metrics["held_out_loss"]
        if loss < self._best_loss:
            self._best, self._best_loss = copied_weights(self.module), loss
        elif self._best is not None:
            logger.info("The model keeps earlier weights, of held_out_loss %.4g.", self._best_loss)
            load_weights(self.module, self._best)
