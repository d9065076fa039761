# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Of which model a checkpoint is, and whether the model that reads it is one like it."""

from collections.abc import Mapping
from typing import Any

MODEL = "anomalib_ssl_model"
"""Key of a checkpoint with the name of the model's class."""

FITTED_BY = "anomalib_ssl_fitted_by"
"""Key of a checkpoint with the arguments that its statistics were fitted by."""

ARGUMENTS = "hyper_parameters"
"""Lightning's key of a checkpoint with the model's arguments."""

NOT_BUILT_BY = frozenset({"max_updates", "in_memory", "memory_limits", "updates_per_epoch", "held_out_share", "seed"})
"""Arguments of all models that have no part in what is built."""


def mark(checkpoint: dict[str, Any], model: Any) -> None:
    """Write into a checkpoint of which model it is, and what its statistics depend on."""
    checkpoint[MODEL] = type(model).__name__
    checkpoint[FITTED_BY] = {name: getattr(model, name) for name in sorted(model.fitted_by)}


def check_fitted_alike(checkpoint: Mapping[str, Any], model: Any) -> None:
    """Refuse statistics that were fitted in another way than the model scores.

    Raises:
        ValueError: If an argument among the model's ``fitted_by`` is another; the message names it.
    """
    for name, saved in checkpoint.get(FITTED_BY, {}).items():
        if (given := getattr(model, name, saved)) != saved:
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
    written, given = checkpoint.get(ARGUMENTS, {}), model.hparams
    differing = [
        f"{name} is {given[name]!r}, not {written[name]!r}"
        for name in written.keys() & given.keys() - model.scoring_arguments - NOT_BUILT_BY
        if given[name] != written[name]
    ]
    if not differing:
        return ""
    return (
        f"{own} is built otherwise than the model of this checkpoint: {', '.join(sorted(differing))}. Give it the "
        "arguments, or the --config, that it was trained with."
    )
