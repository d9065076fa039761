# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Arguments and what else a model knows as plain data: what configurations hold, and what checkpoints may hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")


def from_mapping(kind: type[A] | A, value: A | Mapping[str, Any], name: str) -> A:
    """Build an augmentation, or another dataclass, from a mapping of its arguments, as a configuration holds it.

    Args:
        kind: Class of the augmentation, or an augmentation from which arguments that the mapping lacks are taken.
        value: The augmentation itself, or a mapping, for example a ``dict`` or OmegaConf's ``DictConfig``.
        name: What errors call it.

    Returns:
        The augmentation.

    Raises:
        TypeError: If ``value`` is neither, or an argument is of another type.
        ValueError: If ``value`` holds an unknown argument, or one outside its limits.
        FileNotFoundError: If a folder does not exist.

    Example:
        >>> from anomalib_ssl.augmentations import CutPaste
        >>> from_mapping(CutPaste(jitter=0.2), {"area": [0.02, 0.1]}, "patch")
        CutPaste(area=(0.02, 0.1), aspect=((0.3, 1.0), (1.0, 3.3)), jitter=0.2)
    """
    default = kind() if isinstance(kind, type) else kind
    if isinstance(value, type(default)):
        return value
    if not isinstance(value, Mapping):
        msg = f"{name} must be a {type(default).__name__} or a mapping of its arguments, got {value!r}."
        raise TypeError(msg)
    allowed = [field.name for field in fields(default)]
    for key in value:
        if key not in allowed:
            msg = f"{name} must hold arguments of {type(default).__name__}, one of {allowed}, got {key!r}."
            raise ValueError(msg)
    try:
        return replace(default, **as_plain(value))
    except (TypeError, ValueError, FileNotFoundError) as error:
        msg = f"{name}: {error}"
        raise type(error)(msg) from error


def to_mapping(value: "DataclassInstance") -> dict[str, Any]:
    """Give the arguments of an augmentation as plain data, from which :func:`from_mapping` makes an equal one."""
    return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}


def as_plain(value: Any) -> Any:
    """Turn lists into tuples, paths into strings, numbers of NumPy into Python's; OmegaConf's configurations, too."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(as_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def plain(value: Any) -> Any:
    """Turn a hyper-parameter, which may be an augmentation or another dataclass, into plain data."""
    return to_mapping(value) if is_dataclass(value) and not isinstance(value, type) else as_plain(value)


def packed(value: Any) -> torch.Tensor:
    """Put numbers, text, lists and mappings into bytes: whoever goes through a state dict takes all for tensors."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def unpacked(state: torch.Tensor) -> Any:
    """Take out what :func:`packed` was given; tuples have become lists."""
    return json.loads(bytes(state.tolist()))
