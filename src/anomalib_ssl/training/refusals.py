# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What no model of this package can be trained on or scored in, refused before it starts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from anomalib.data.transforms.utils import extract_transforms_by_type
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging, WeightAveraging
from PIL import Image
from timm.layers import BatchNormAct2d
from torch import nn
from torchvision.transforms.v2 import Normalize

MARGIN = 0.2
"""How far values may lie outside of [0, 1]: interpolation can overshoot, and normalisation goes farther."""

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


def check_callbacks(trainer: Trainer) -> None:
    """Raise if a callback averages weights.

    Raises:
        ValueError: If one does: statistics of normal images would be those of other weights, or averaged themselves.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, StochasticWeightAveraging | WeightAveraging):
            msg = (
                f"callbacks must not average weights, got {type(callback).__name__}: statistics of normal images are "
                "those of the weights they were fitted to. AutoencoderProjection has an average of its own (ema_decay)."
            )
            raise ValueError(msg)  # noqa: TRY004  # it is what the Trainer was given, not its type


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


def check_depth(paths: Iterable[Path | str]) -> None:
    """Raise if an image file has more than 8 bits a colour, which anomalib reads as white.

    Raises:
        ValueError: If one has; the message names it.
    """
    for path in paths:
        try:
            with Image.open(path) as image:
                mode = image.mode
        except OSError:  # some data sets name what is no file of their own
            continue
        if mode.startswith(("I", "F")):
            msg = f"Training images must have 8 bits a colour, got {mode} of '{path}', which is read as white."
            raise ValueError(msg)


def check_training_images(images: torch.Tensor, size: tuple[int, int]) -> None:
    """Raise unless training images are what the model was built for.

    Args:
        images: A batch as it comes to the model, (B, 3, H, W).
        size: Height and width in pixels that it scores.

    Raises:
        ValueError: If they are of another size, or their values are not in [0, 1].
    """
    if tuple(images.shape[-2:]) != size:
        msg = (
            f"image_size must be that of the images, {tuple(images.shape[-2:])} as they come out of the pre_processor, "
            f"got {size}: give their size, or let the pre_processor resize them."
        )
        raise ValueError(msg)
    low, high = torch.stack(images.aminmax()).cpu().tolist()
    if low < -MARGIN or high > 1 + MARGIN:
        msg = (
            f"Training images must have values in [0, 1], got {low:.2f} to {high:.2f}: augmentations of the datamodule "
            "must not normalise them, for they are augmented in [0, 1] pixel space and normalised inside the model."
        )
        raise ValueError(msg)
