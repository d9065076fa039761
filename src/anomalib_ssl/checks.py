# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks shared by models and augmentations.

Every message names the argument, the value that was given and what is allowed.
"""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, TypeGuard

import torch


def check_choice(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise unless ``value`` is one of the ``allowed`` names.

    Raises:
        ValueError: If ``value`` is not in ``allowed``.
    """
    if not isinstance(value, str) or value not in allowed:
        msg = f"{name} must be one of {sorted(allowed)}, got {value!r}."
        raise ValueError(msg)


def check_choices(name: str, value: Any, allowed: Collection[str], least: int = 1) -> None:
    """Raise unless ``value`` is a sequence of ``least`` or more of the ``allowed`` names, none of them twice.

    Raises:
        TypeError: If ``value`` is no sequence, or itself a string.
        ValueError: If ``value`` holds too few names, another one, or one twice.
    """
    msg = f"{name} must be a list of {least} or more of {sorted(allowed)}, each at most once, got {value!r}."
    if not _is_sequence(value):
        raise TypeError(msg)
    known = all(isinstance(item, str) and item in allowed for item in value)
    if not known or len(value) < least or len(set(value)) < len(value):
        raise ValueError(msg)


def check_flag(name: str, value: Any) -> None:
    """Raise unless ``value`` is true or false.

    Raises:
        TypeError: If ``value`` is no boolean.
    """
    if not isinstance(value, bool):
        msg = f"{name} must be true or false, got {value!r}."
        raise TypeError(msg)


def check_part(name: str, value: Any, kind: type) -> None:
    """Raise unless ``value`` is a part of a model of that kind, or true or false.

    Raises:
        TypeError: If it is anything else.
    """
    if not isinstance(value, (kind, bool)):
        msg = f"{name} must be a {kind.__name__}, true or false, got {value!r}."
        raise TypeError(msg)


def check_number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is a finite number in ``[low, high]``, of Python or NumPy.

    Raises:
        TypeError: If ``value`` is no number.
        ValueError: If ``value`` lies outside or is not finite.
    """
    if not _is_number(value):
        msg = f"{name} must be a number in [{low:g}, {high:g}], got {value!r}."
        raise TypeError(msg)
    if not (math.isfinite(value) and low <= value <= high):
        msg = f"{name} must lie in [{low:g}, {high:g}], got {value!r}."
        raise ValueError(msg)


def check_whole(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is a whole number in ``[low, high]``, an integer of Python or NumPy.

    Raises:
        TypeError: If ``value`` is no integer; 3.0 is none.
        ValueError: If ``value`` lies outside.
    """
    if not _is_whole(value):
        msg = f"{name} must be a whole number in [{low:g}, {high:g}], got {value!r}."
        raise TypeError(msg)
    check_number(name, value, low, high)


def check_range(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is an ordered pair ``(smallest, largest)`` of numbers inside ``[low, high]``.

    Raises:
        TypeError: If ``value`` is no sequence of numbers.
        ValueError: If ``value`` is no pair, is out of order or leaves the limits.
    """
    allowed = f"an ordered pair (smallest, largest) of numbers inside [{low:g}, {high:g}]"
    if not _is_sequence(value) or not all(map(_is_number, value)):
        msg = f"{name} must be {allowed}, got {value!r}."
        raise TypeError(msg)
    if len(value) != 2 or not all(map(math.isfinite, value)) or not low <= value[0] <= value[1] <= high:
        msg = f"{name} must be {allowed}, got {value!r}."
        raise ValueError(msg)


def check_whole_range(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is an ordered pair ``(smallest, largest)`` of whole numbers inside ``[low, high]``.

    Raises:
        TypeError: If ``value`` is no sequence of integers.
        ValueError: If ``value`` is no pair, is out of order or leaves the limits.
    """
    check_range(name, value, low, high)
    for bound in value:
        check_whole(name, bound, low, high)


def check_wholes(name: str, value: Any, low: float = -math.inf, least: int = 1) -> None:
    """Raise unless ``value`` is a sequence of ``least`` or more whole numbers that are at least ``low``.

    Raises:
        TypeError: If ``value`` is no sequence of integers.
        ValueError: If ``value`` holds too few, or a smaller one.
    """
    msg = f"{name} must be a list of {least} or more whole numbers, {low:g} or more, got {value!r}."
    if not _is_sequence(value) or not all(map(_is_whole, value)):
        raise TypeError(msg)
    if len(value) < least or any(item < low for item in value):
        raise ValueError(msg)


def check_size(name: str, value: Any) -> tuple[int, int]:
    """Raise unless ``value`` is the size of an image in pixels: one side of a square, or a pair (height, width).

    Returns:
        Height and width.

    Raises:
        TypeError: If ``value`` is neither an integer nor a sequence of integers.
        ValueError: If ``value`` does not hold two integers, or a side is less than 1.
    """
    sides = value if _is_sequence(value) else (value, value)
    if not all(map(_is_whole, sides)):
        msg = f"{name} must be a whole number of pixels or a pair (height, width) of them, got {value!r}."
        raise TypeError(msg)
    if len(sides) != 2 or min(sides) < 1:
        msg = f"{name} must be a whole number of pixels or a pair (height, width) of them, at least 1, got {value!r}."
        raise ValueError(msg)
    return int(sides[0]), int(sides[1])


def check_sides(name: str, size: tuple[int, int], multiple: int) -> None:
    """Raise unless both sides are positive multiples of ``multiple``, by which a network reduces and enlarges images.

    Args:
        name: Name of the argument.
        size: Height and width in pixels.
        multiple: What they must be multiples of.

    Raises:
        ValueError: If one is not.
    """
    if any(side < multiple or side % multiple for side in size):
        msg = f"{name} must have sides that are multiples of {multiple} pixels, got {tuple(size)}."
        raise ValueError(msg)


def check_output(name: str, path: Path | str, suffixes: Sequence[str] = ()) -> None:
    """Raise unless a file or folder can be written, before anything is computed that would be lost.

    Args:
        name: Name of the argument.
        path: File, where ``suffixes`` are given, else a folder. Folders are made where missing; a file that is there
            stays as it is.
        suffixes: What the name of a file may end with.

    Raises:
        ValueError: If it cannot be written; the message says why.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        msg = f"{name} must name a {' or '.join(suffixes)} file, got '{path}'."
        raise ValueError(msg)
    folder = path.parent if suffixes else path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder) as file:
            file.write(b"0")
        if suffixes and path.exists():
            path.open("ab").close()
    except (OSError, ValueError) as error:
        msg = f"{name} must be a {'file' if suffixes else 'folder'} that can be written, got '{path}': {error}"
        raise ValueError(msg) from error


def check_images(images: Any) -> None:
    """Raise unless ``images`` is a batch of shape (B, C, H, W), floating point or uint8, with at least one pixel.

    Raises:
        TypeError: If ``images`` is no tensor or of another data type.
        ValueError: If ``images`` does not have four dimensions, or one of them is 0.
    """
    if not isinstance(images, torch.Tensor) or not (images.is_floating_point() or images.dtype == torch.uint8):
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        msg = f"images must be a floating point tensor with values in [0, 1], or uint8, got {kind}."
        raise TypeError(msg)
    if images.ndim != 4 or images.numel() == 0:
        msg = f"images must have the shape (B, C, H, W), every dimension at least 1, got {tuple(images.shape)}."
        raise ValueError(msg)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_sequence(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)
