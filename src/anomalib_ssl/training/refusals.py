# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What no model of this package can be trained on or scored in, refused before it starts."""

from typing import Any

from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import Trainer
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.transforms.v2 import Normalize

PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
"""Precisions of the Trainer that work: densities and statistics need float32."""


def check_precision(trainer: Trainer) -> None:
    """Raise unless the Trainer's precision is one of those that work.

    Raises:
        ValueError: If it is not.
    """
    if trainer.precision not in PRECISIONS:
        msg = (
            f"precision must be one of {', '.join(PRECISIONS)}, got {trainer.precision}: densities and statistics of "
            "normal images need float32. --trainer.precision bf16-mixed is the fast one."
        )
        raise ValueError(msg)


def check_sync_batchnorm(trainer: Trainer, model: nn.Module) -> None:
    """Raise if synchronising batch norm would change what a network computes.

    Raises:
        ValueError: If the network has batch norm with an activation in it, which torch's conversion drops.
    """
    strategy: Any = trainer.strategy
    if getattr(strategy, "_layer_sync", None) is None:
        return
    if any(isinstance(module, BatchNormAct2d) for module in model.modules()):
        msg = (
            "sync_batchnorm must be off for this backbone, whose batch norm holds the activation (EfficientNet, "
            "MobileNet): torch's conversion drops it. ResNets can be synchronised."
        )
        raise ValueError(msg)


def check_no_normalize(pre_processor: nn.Module | None) -> None:
    """Raise if a pre-processor normalises its images.

    Raises:
        ValueError: If the transform contains ``Normalize``.
    """
    transform = getattr(pre_processor, "transform", None)
    if transform is not None and extract_transforms_by_type(transform, Normalize):
        msg = (
            "pre_processor must not contain Normalize: images are augmented in [0, 1] pixel space and normalised "
            f"inside the model. Got {transform}."
        )
        raise ValueError(msg)
