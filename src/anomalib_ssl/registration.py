# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Make this package's models known to anomalib.

The models are listed once, as entry points of this distribution in the group ``anomalib.models``. Importing a model
puts it among the subclasses of ``AnomalibModule``, where the command line, ``get_model`` and ``list_models`` look;
``anomalib benchmark`` takes it from the module ``anomalib.models``, so it is set there too. anomalib's list of modules
that models may be imported from, a security measure, is left as it is.
"""

import logging
import warnings
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution
from types import ModuleType

DISTRIBUTION = "anomalib-ssl"
PACKAGE = "anomalib_ssl"
GROUP = "anomalib.models"

logger = logging.getLogger(__name__)

_warned: set[str] = set()


def register() -> list[str]:
    """Register every model of this package with anomalib.

    May be called any number of times. A model that cannot be imported, and a name that anomalib has given to a model of
    its own, are left out with a warning; nothing but a missing anomalib raises.

    Returns:
        The names of our models that ``anomalib.models`` now has.

    Raises:
        ImportError: If anomalib itself cannot be imported.

    Example:
        >>> import anomalib_ssl
        >>> "CutPaste" in anomalib_ssl.register()
        True
    """
    models = import_module("anomalib.models")
    return [entry_point.name for entry_point in entry_points() if _register_one(entry_point, models)]


def entry_points() -> list[EntryPoint]:
    """The entry points of this distribution, and of no other, that name a model."""
    try:
        found = distribution(DISTRIBUTION).entry_points.select(group=GROUP)
    except PackageNotFoundError:
        _warn_once(f"{DISTRIBUTION} is not installed, only importable: its models are not registered with anomalib.")
        return []
    return sorted(found, key=lambda entry_point: entry_point.name)


def _register_one(entry_point: EntryPoint, models: ModuleType) -> bool:
    """Register one model, unless its name is taken or it cannot be imported."""
    name = entry_point.name
    # Asked before ours is imported: from then on there would be two models of one name, and no short name would do.
    owner = _owner(name, models)
    if owner is not None:
        _warn_once(
            f"{DISTRIBUTION}: the model name '{name}' is left to {owner}, which had it first. "
            f"Ours is {PACKAGE}.models.{name}.",
        )
        return False
    try:
        model = entry_point.load()
    except Exception as error:  # noqa: BLE001  # a broken model must not take anomalib down with it
        _warn_once(f"{DISTRIBUTION}: the model '{name}' cannot be imported: {type(error).__name__}: {error}")
        return False
    setattr(models, name, model)
    exported = getattr(models, "__all__", None)
    if isinstance(exported, list) and name not in exported:
        exported.append(name)
    return True


def _owner(name: str, models: ModuleType) -> str | None:
    """The path of the class or object, not of this package, that has the name in anomalib; ``None`` if it is free.

    Names of models are compared as ``get_model`` compares them, without regard to case.
    """
    holders = [vars(models)[name]] if name in vars(models) else []
    pending = [models.AnomalibModule]
    while pending:
        subclasses = pending.pop().__subclasses__()
        pending += subclasses
        holders += [subclass for subclass in subclasses if subclass.__name__.lower() == name.lower()]
    for holder in holders:
        module = str(getattr(holder, "__module__", None) or models.__name__)
        if module.partition(".")[0] != PACKAGE:
            return f"{module}.{getattr(holder, '__qualname__', name)}"
    return None


def _warn_once(message: str) -> None:
    """Warn, the first time, without ever raising."""
    if message in _warned:
        return
    _warned.add(message)
    try:
        warnings.warn(message, RuntimeWarning, stacklevel=2)
    except RuntimeWarning:  # with -W error: still no reason for `import anomalib` to fail
        logger.warning(message)
