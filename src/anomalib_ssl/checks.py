# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks shared by models and augmentations.

Every message names the argument, the value that was given and what is allowed.
"""

import math
from collections.abc import Collection, Sequence

import torch


def check_choice(name: str, value: str, allowed: Collection[str]) -> None:
    """Raise unless ``value`` is one of the ``allowed`` names.

    Raises:
        ValueError: If ``value`` is not in ``allowed``.
    """
    if value not in allowed:
        msg = f"{name} must be one of {sorted(allowed)}, got {value!r}."
        raise ValueError(msg)


def check_number(name: str, value: float, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is a finite number in ``[low, high]``.

    Raises:
        ValueError: If ``value`` lies outside or is not finite.
    """
    if not (math.isfinite(value) and low <= value <= high):
        msg = f"{name} must lie in [{low:g}, {high:g}], got {value!r}."
        raise ValueError(msg)


def check_range(name: str, value: Sequence[float], low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless ``value`` is an ordered pair ``(smallest, largest)`` inside ``[low, high]``.

    Raises:
        ValueError: If ``value`` is no pair, is out of order or leaves the limits.
    """
    if len(value) != 2 or not all(math.isfinite(bound) for bound in value):
        msg = f"{name} must be a pair (smallest, largest) of finite numbers, got {value!r}."
        raise ValueError(msg)
    if not low <= value[0] <= value[1] <= high:
        msg = f"{name} must be an ordered pair (smallest, largest) inside [{low:g}, {high:g}], got {value!r}."
        raise ValueError(msg)


def check_images(images: torch.Tensor) -> None:
    """Raise unless ``images`` is a batch of shape (B, C, H, W), floating point or uint8.

    Raises:
        TypeError: If ``images`` is no tensor or of another data type.
        ValueError: If ``images`` does not have four dimensions.
    """
    if not isinstance(images, torch.Tensor) or not (images.is_floating_point() or images.dtype == torch.uint8):
        kind = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        msg = f"images must be a floating point tensor with values in [0, 1], or uint8, got {kind}."
        raise TypeError(msg)
    if images.ndim != 4:
        msg = f"images must have the shape (B, C, H, W), got {tuple(images.shape)}."
        raise ValueError(msg)
