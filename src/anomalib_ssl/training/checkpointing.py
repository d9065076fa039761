# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What checkpoints hold besides weights: of which model they are, and what has to be alike in one that reads them."""

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_ssl.plain_data import as_plain
from anomalib_ssl.training.scoring_state import ScoringState

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule as Base
else:
    Base = object

logger = logging.getLogger(__name__)

MODEL = "anomalib_ssl_model"
"""Key of a checkpoint with the name of the model's class."""

FITTED_BY = "anomalib_ssl_fitted_by"
"""Key of a checkpoint with the arguments that its statistics were fitted by."""

ARGUMENTS = "hyper_parameters"
"""Lightning's key of a checkpoint with the model's arguments."""

PREFIX = "post_processor."
"""Of the names that the post-processor's values have among the weights."""

POST_PROCESSOR = ("_image_threshold", "_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max")
"""Its values, all of them found by a validation."""

NOT_BUILT_BY = frozenset({"max_updates", "in_memory", "memory_limits", "updates_per_epoch", "held_out_share", "seed"})
"""Arguments of all models that have no part in what is built."""


class CheckpointMixin(Base):
    """Checkpoints that hold what scoring needs, and are refused by name where they do not fit.

    Attributes:
        scoring_arguments: Names of the arguments that change how the trained network scores, and no training.
        fitted_by: Names of those among them that what is fitted to normal images depends on.
    """

    scoring_arguments: frozenset[str] = frozenset({"equal_exposure"})
    fitted_by: frozenset[str] = frozenset({"equal_exposure"})
    _scoring_state: ScoringState | None = None
    _origin: Mapping[str, Any] = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a checkpoint hold what scoring needs, and say of which model it is."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[MODEL] = type(self).__name__
        checkpoint[FITTED_BY] = {name: self.hparams[name] for name in sorted(self.fitted_by)}
        trainer = getattr(self, "_trainer", None)
        if trainer is not None and self._scoring_state is not None:
            self._scoring_state.complete(trainer, self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint whose statistics were fitted in another way, unless training fits them anew.

        Thresholds and ranges of another score, or another map, are left out.

        Raises:
            ValueError: If an argument among :attr:`fitted_by` is another; the message names it.
        """
        super().on_load_checkpoint(checkpoint)
        self._origin = {name: checkpoint[name] for name in (MODEL, ARGUMENTS) if name in checkpoint}
        trainer = getattr(self, "_trainer", None)
        stage = None if trainer is None else trainer.state.fn
        if stage == TrainerFn.FITTING:
            return
        check_fitted_alike(checkpoint, self)
        others = sorted(self.scoring_arguments & differing_arguments(checkpoint, self).keys())
        if others:
            set_post_processor(checkpoint, dict.fromkeys(POST_PROCESSOR, torch.tensor(torch.nan)))
            if stage != TrainerFn.VALIDATING:
                logger.warning(
                    "%s has another %s than its checkpoint, whose threshold and range of scores are left out: labels "
                    "and F1 scores mean nothing before Engine.validate has found new ones.",
                    type(self).__name__,
                    " and ".join(others),
                )

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights and statistics.

        Raises:
            ValueError: If they are of a checkpoint of another model, or of one with other arguments; the message names
                these.
            RuntimeError: If they do not fit for another reason.
        """
        try:
            return super().load_state_dict(*args, **kwargs)
        except (RuntimeError, KeyError, TypeError) as error:
            if reason := misfit(self._origin, self):
                raise ValueError(reason) from error
            raise


def check_fitted_alike(checkpoint: Mapping[str, Any], model: Any) -> None:
    """Refuse statistics that were fitted in another way than the model scores.

    Raises:
        ValueError: If an argument among the model's ``fitted_by`` is another; the message names it.
    """
    for name, saved in checkpoint.get(FITTED_BY, {}).items():
        if as_plain(given := model.hparams.get(name, saved)) != as_plain(saved):
            msg = (
                f"{name} must be {saved} for this checkpoint, got {given}: what images are compared with was "
                "fitted so when it was trained."
            )
            raise ValueError(msg)


def misfit(checkpoint: Mapping[str, Any], model: Any) -> str:
    """Say why the state of a checkpoint does not go into a model; nothing where the arguments do not tell."""
    own = type(model).__name__
    if (saved := checkpoint.get(MODEL, own)) != own:
        return f"{own} cannot be loaded from a checkpoint of {saved}."
    differing = differing_arguments(checkpoint, model)
    reasons = [differing[name] for name in sorted(differing.keys() - model.scoring_arguments - NOT_BUILT_BY)]
    if not reasons:
        return ""
    return (
        f"{own} is built otherwise than the model of this checkpoint: {', '.join(reasons)}. Give it the arguments, or "
        "the --config, that it was trained with."
    )


def differing_arguments(checkpoint: Mapping[str, Any], model: Any) -> dict[str, str]:
    """Name the arguments that a model and a checkpoint have both, and not alike; say how they differ."""
    written, given = checkpoint.get(ARGUMENTS, {}), model.hparams
    return {
        name: f"{name} is {given[name]!r}, not {written[name]!r}"
        for name in written.keys() & given.keys()
        if as_plain(given[name]) != as_plain(written[name])
    }


def set_post_processor(checkpoint: Mapping[str, Any], values: Mapping[str, torch.Tensor]) -> None:
    """Write values of anomalib's post-processor into a checkpoint, as far as it has them.

    It is a module and a callback, so that a checkpoint holds its state twice; Lightning loads the callback's last.
    """
    state = checkpoint["state_dict"]
    state.update({f"{PREFIX}{name}": value for name, value in values.items() if f"{PREFIX}{name}" in state})
    for kept in checkpoint.get("callbacks", {}).values():
        if isinstance(kept, dict):
            kept.update({name: value for name, value in values.items() if name in kept})
