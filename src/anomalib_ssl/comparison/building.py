# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Models and datamodules from a specification, checked against their signatures."""

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import anomalib.data
import anomalib.models  # noqa: F401  # imports all models, so that jsonargparse knows their short names
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Trainer

import anomalib_ssl
from anomalib_ssl.comparison.specification import Specification

SET_HERE = {"self", "default_root_dir", "callbacks", "accelerator", "devices"}
"""Arguments of the Trainer that a benchmark sets itself."""

anomalib_ssl.register()  # where the start-up file does not run


class Built(NamedTuple):
    """What a job works on.

    Args:
        model: The model, its weights drawn.
        datamodule: The datamodule; nothing has been read.
        arguments: All arguments of the model, defaults included.
        pretrained: Whether the model starts from weights trained on other images; None if its arguments do not tell.
    """

    model: AnomalibModule
    datamodule: AnomalibDataModule
    arguments: dict[str, Any]
    pretrained: bool | None


def build(specification: Specification) -> Built:
    """Make the model and the datamodule of a job, as ``anomalib train`` would from the same settings.

    The random state is used as it is: seed it before.
    """
    parser = _parser()
    parsed = _parsed(parser, specification)
    arguments = vars(parsed.model.init_args)
    pretrained = specification.pretrained
    if pretrained is None:
        pretrained = next((arguments[name] for name in ("pre_trained", "pretrained") if name in arguments), None)
    if pretrained is None and str(parsed.model.class_path).startswith("anomalib_ssl."):
        pretrained = False  # models of this package have the argument unless they always start from random weights
    try:
        built = parser.instantiate_classes(parsed)
    except ValueError as error:
        raise ValueError(_meant(error)) from error
    return Built(built.model, built.data, arguments, pretrained)


def check(specifications: Iterable[Specification]) -> None:
    """Raise unless all jobs can be built: classes, arguments and their types; no weights are drawn, no data read.

    Raises:
        ValueError: If a class or an argument is not known, or a value is not of its type.
    """
    parser = _parser()
    seen: set[str] = set()
    known = set(inspect.signature(Trainer.__init__).parameters) - SET_HERE
    for specification in specifications:
        data = {name: value for name, value in specification.data_args.items() if name != "category"}
        settings = {repr(specification.model), repr((specification.data_class, sorted(data.items())))}
        if not settings <= seen:
            seen |= settings
            _parsed(parser, specification)
        unknown = sorted(set(specification.trainer) - known)
        if unknown:
            msg = f"trainer: {unknown[0]!r} is none of the Trainer's arguments that a benchmark takes."
            raise ValueError(msg)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibModule, "model", required=True)
    parser.add_subclass_arguments(AnomalibDataModule, "data", required=True)
    return parser


def _parsed(parser: ArgumentParser, specification: Specification) -> Namespace:
    described: dict[str, Any] = {
        "model": {"class_path": specification.model["class_path"], "init_args": specification.model_args},
        "data": {"class_path": specification.data["class_path"], "init_args": specification.data_args},
    }
    try:
        return parser.parse_object(described)
    except ArgumentError as error:
        msg = f"{specification.model['class_path']} on {specification.data['class_path']}: {_meant(error)}"
        raise ValueError(msg) from error


def _meant(error: Exception) -> str:
    """Shorten an error of jsonargparse: it lists what it has tried, the last of which is meant, and what was given."""
    return " ".join(str(error).partition("Given value type")[0].rpartition("- ")[2].split())
