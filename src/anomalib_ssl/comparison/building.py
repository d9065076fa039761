# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Models and datamodules from a specification, checked against their signatures."""

import re
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import anomalib.data
import anomalib.models  # noqa: F401  # imports all models, so that jsonargparse knows their short names
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from lightning import Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException

import anomalib_ssl
from anomalib_ssl.checks import check_whole
from anomalib_ssl.comparison.specification import Specification

SET_HERE: set[str | int] = {"default_root_dir", "callbacks", "accelerator", "devices"}
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
    built = _instantiated(parser, parsed)
    return Built(built.model, built.data, arguments, pretrained)


def network_name(specification: Specification) -> str | None:
    """Name a network of this version; settings that differ only in how they score, as their model says, share the name.

    Returns:
        None for models of which nothing is known.
    """
    model = getattr(anomalib_ssl.models, specification.model_class, None)
    if model is None:
        return None
    return f"{specification.without(model.scoring_arguments).name}-{anomalib_ssl.__version__}"


def check(specifications: Iterable[Specification]) -> None:
    """Raise unless all jobs can be built: classes, arguments with their types and ranges, Trainers, categories.

    Models of this package are built, without pretrained weights, since they know the ranges of their arguments.

    Raises:
        ValueError: If a class, an argument or a category is not known, or a value is none that it can have.
    """
    parser = _parser()
    seen: set[str] = set()
    roots: dict[str, Any] = {}
    for specification in specifications:
        where = f"{specification.model['class_path']} on {specification.data['class_path']}"
        data = {name: value for name, value in specification.data_args.items() if name != "category"}
        model = {name: value for name, value in specification.model_args.items() if name != "seed"}
        data_settings = repr((specification.data_class, sorted(data.items())))
        settings = {repr((specification.model_class, model)), data_settings}
        trainer = repr((specification.accelerator, specification.trainer))
        try:
            if not settings <= seen:
                parsed = _parsed(parser, specification)
                _check_values(parser, parsed)
                roots[data_settings] = parsed.data.init_args.get("root")
            if trainer not in seen:
                _check_trainer(specification)
            _check_category(specification.category, roots[data_settings])
        # Whatever a constructor raises for what it is given.
        except (ValueError, TypeError, MisconfigurationException, ArgumentError) as error:
            msg = f"{where}: {_meant(error) if isinstance(error, ArgumentError) else error}"
            raise ValueError(msg) from error
        seen |= settings | {trainer}


def _check_values(parser: ArgumentParser, parsed: Namespace) -> None:
    """Build a model of this package, and look at the arguments of a datamodule that every one has."""
    if str(parsed.model.class_path).startswith("anomalib_ssl."):
        parsed = parsed.clone()
        if "pre_trained" in parsed.model.init_args:
            parsed.model.init_args.pre_trained = False  # to check needs no weights
        _instantiated(parser, parsed)
    for name, least in (("train_batch_size", 1), ("eval_batch_size", 1), ("num_workers", 0)):
        if name in parsed.data.init_args:
            check_whole(name, parsed.data.init_args[name], least)


def _check_trainer(specification: Specification) -> None:
    """Look at names and types of the Trainer's arguments, then build it."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer", skip=SET_HERE)
    parser.parse_object({"trainer": specification.trainer})
    Trainer(**{"logger": False, **specification.trainer, "accelerator": specification.accelerator, "devices": 1})


def _check_category(category: str | None, root: Path | str | None) -> None:
    """Look for the folder of a category, where the data set is there: it is not downloaded then."""
    if category in ("", ".", ".."):
        msg = f"category must be the name of a folder, got {category!r}."
        raise ValueError(msg)
    if root is None or category is None or not Path(root).is_dir():
        return
    folders = [path for path in Path(root).iterdir() if path.is_dir()]
    # Beside each other, or below a folder of the data set's name.
    if folders and not any((folder / category).is_dir() for folder in (Path(root), *folders)):
        names = ", ".join(sorted(path.name for path in folders))
        msg = f"category must be one of those in '{root}' ({names}), got {category!r}."
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
        # A copy, for what it finds in lists it replaces in place.
        return parser.parse_object(deepcopy(described))
    except ArgumentError as error:
        raise ValueError(_meant(error)) from error


def _instantiated(parser: ArgumentParser, parsed: Namespace) -> Namespace:
    try:
        return parser.instantiate_classes(parsed)
    except ValueError as error:
        raise ValueError(_meant(error)) from error


def _meant(error: Exception) -> str:
    """Shorten an error of jsonargparse: it lists what it has tried, the last of which is meant, and what was given."""
    text = str(error)
    keys = [key for key in re.findall(r'Parser key "([^"]+)"', text) if key not in ("model", "data")]
    inner = text.rpartition(f'Parser key "{keys[-1]}":')[2] if keys else text
    reason = " ".join(inner.partition("Given value type")[0].rpartition("- ")[2].split())
    if not keys:
        return reason
    value = re.search("Given value: (.*)", inner)
    given = f". Got value: {value[1]}" if value and "Got value" not in reason else ""
    return f"{keys[-1]}: {reason}{given}"
