# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Trained models from their checkpoints, whichever model it is."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from anomalib.models import AnomalibModule
from anomalib.utils.serialization import anomalib_safe_globals

from anomalib_ssl import register
from anomalib_ssl.scoring.fitted import is_unfitted
from anomalib_ssl.training.checkpointing import ARGUMENTS, MODEL


def load_checkpoint(path: Path | str, model: str | None = None) -> AnomalibModule:
    """Load a trained model of anomalib or of this package: in evaluation mode, on the GPU if there is one.

    Args:
        path: The checkpoint.
        model: Name of the model, that of its class or in snake case, or the full path of its class. Checkpoints of this
            package's models say it themselves, but for old ones.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint, or not one of this model, or was written while a run broke off.
    """
    kind = None if model is None else model_class(model)
    saved = read_checkpoint(Path(path), kind)
    own = saved.get(MODEL)
    if kind is None:
        if own is None:
            msg = f"ckpt_path: '{path}' does not say of which model it is: give model, such as Padim."
            raise ValueError(msg)
        try:
            kind = model_class(own)
        except ValueError as error:
            msg = f"ckpt_path: '{path}' is a checkpoint of {own}: give the full path of that class as model."
            raise ValueError(msg) from error
    elif own not in (None, kind.__name__):
        msg = f"ckpt_path: '{path}' is a checkpoint of {own}, not of {kind.__name__}."
        raise ValueError(msg)
    loaded: AnomalibModule = _loaded(kind, path, saved).eval()
    if is_unfitted(loaded):
        msg = f"ckpt_path: '{path}' was written while a run broke off, and is not for scoring: train on from it."
        raise ValueError(msg)
    return loaded


def model_class(name: str) -> type[AnomalibModule]:
    """Find the class of a model, as anomalib does: by its name, in snake case too, or by its full path.

    Raises:
        ValueError: If there is no such model.

    Example:
        >>> model_class("efficient_ad") is model_class("anomalib.models.EfficientAd")
        True
    """
    register()  # where the start-up file does not run
    module, _, last = name.rpartition(".")
    if module:
        try:
            kind = getattr(import_module(module), last)
        except (ImportError, AttributeError) as error:
            msg = f"model: there is no class '{name}': {error}"
            raise ValueError(msg) from error
        if not isinstance(kind, type) or not issubclass(kind, AnomalibModule):
            msg = f"model must be a model of anomalib, got '{name}'."
            raise ValueError(msg)
        return kind
    known = {kind.__name__.lower(): kind for kind in AnomalibModule.__subclasses__()}
    key = name.replace("_", "").lower()
    if key not in known:
        msg = f"model must be one of {sorted(kind.__name__ for kind in known.values())}, got {name!r}."
        raise ValueError(msg)
    return known[key]


def _loaded(kind: Any, path: Path | str, saved: dict[str, Any]) -> Any:
    """Build a model and load its checkpoint."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # The checkpoint holds the weights: none have to be fetched before.
        own = {name: False for name in ("pre_trained", "pretrained") if saved[ARGUMENTS].get(name)}
        return kind.load_from_checkpoint(path, map_location=device, **own)
    except Exception as error:  # whatever a model fails with on what belongs to another one
        reason = str(error).strip().partition("\n")[0]
        msg = f"ckpt_path: '{path}' is no checkpoint of {kind.__name__}: {reason}"
        raise ValueError(msg) from error


def read_checkpoint(path: Path, kind: type[AnomalibModule] | None = None) -> dict[str, Any]:
    """Read what a checkpoint holds: plain data, tensors, and classes that anomalib trusts.

    Args:
        path: The checkpoint.
        kind: Class of the model, which may trust others.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no checkpoint of a model of anomalib.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        msg = f"ckpt_path: '{path}' is no file that can be read: {error.strerror}."
        raise (FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError)(msg) from error
    try:
        with anomalib_safe_globals(extra=kind.checkpoint_safe_globals() if kind is not None else ()):
            saved = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # all kinds of them, whose words say nothing to the user
        msg = f"ckpt_path: '{path}' is no checkpoint, or not all of one: torch cannot load it."
        raise ValueError(msg) from error
    if not isinstance(saved, dict) or not {"state_dict", ARGUMENTS} <= saved.keys():
        msg = f"ckpt_path: '{path}' is no checkpoint of a model of anomalib: it holds something else."
        raise ValueError(msg)
    return saved
