# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a torchvision transform does: which of its steps are deterministic, which run on any device."""

from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import torch
from anomalib.models import AnomalibModule
from torchvision.transforms import v2

DETERMINISTIC = (v2.CenterCrop, v2.Grayscale, v2.Identity, v2.Pad, v2.Resize, v2.RGB, v2.ToImage)
"""Transforms that do the same to an image each time."""

HOST_ONLY = (v2.Lambda, v2.LinearTransformation, v2.ToPILImage)
"""Transforms of torchvision that may not work on an accelerator's images."""


def steps(transform: Any) -> list[Any]:
    """The transforms that ``transform`` applies one after the other, nested ``Compose`` taken apart; none for None."""
    if transform is None:
        return []
    if type(transform) is v2.Compose:
        return [step for part in transform.transforms for step in steps(part)]
    return [transform]


def preprocessed(model: AnomalibModule, images: torch.Tensor) -> torch.Tensor:
    """Prepare images (B, C, H, W) for a model as anomalib does to test and to predict.

    Calling a pre-processor is for exported graphs: it resizes without antialiasing.
    """
    transform = getattr(model.pre_processor, "transform", None)
    return images if transform is None else transform(images)


def compose(parts: Sequence[Any]) -> v2.Transform | None:
    """Put steps together again; None if there are none."""
    return v2.Compose(list(parts)) if parts else None


def split_deterministic(transform: Any) -> tuple[list[Any], list[Any]]:
    """Split a transform where it first may do different things to the same image.

    Args:
        transform: A transform, or None.

    Returns:
        The deterministic steps it begins with, and the rest.
    """
    parts = steps(transform)
    first = list(takewhile(is_deterministic, parts))
    return first, parts[len(first) :]


def is_deterministic(step: Any) -> bool:
    """Whether a step is known to do the same to a float32 image each time, and to give a float32 image."""
    # By exact type: a subclass may do anything.
    return type(step) in DETERMINISTIC or (type(step) is v2.ToDtype and step.dtype == torch.float32)


def runs_on(step: Any, device: torch.device) -> bool:
    """Whether a step works on images of a device; of code that is not torchvision's that is known for the CPU only."""
    if device.type == "cpu":
        return True
    known = type(step).__module__.startswith("torchvision.") and not isinstance(step, HOST_ONLY)
    return known and all(runs_on(part, device) for part in getattr(step, "transforms", ()))
