# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Dropout inside the blocks of a network: random in training, by fixed masks or at random for uncertainty."""

from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_choice

RATE = 0.1
"""Probability that a channel is dropped."""

MASKS = ("fixed", "random")
"""Names of how channels are chosen in passes for uncertainty."""

_CONVOLUTIONS = ("conv2", "conv_pwl")
"""The convolution of a block before which values are dropped, by its name in timm's networks."""

_SEED = 0
"""Seed of the fixed masks."""


class BlockDropout(nn.Module):
    """Dropout of channels that can also run several passes of one batch, stacked, each with a mask of its own.

    In training mode it is ordinary dropout. In evaluation mode it does nothing, unless :attr:`passes` says which passes
    are stacked in the batch; pass 0 is without dropout.

    With fixed masks a pass drops the same channels of every image at every call, so that scores are reproducible and
    can be exported. Literal Monte-Carlo dropout draws them anew for every image.

    Args:
        channels: Number of channels.
        masks: ``fixed`` or ``random``.
        num_passes: Number of passes that have masks, besides the one without dropout.
        generator: Source of the fixed masks.
    """

    kept: torch.Tensor

    def __init__(self, channels: int, masks: str, num_passes: int, generator: torch.Generator) -> None:
        super().__init__()
        self.masks = masks
        self.passes: range | None = None
        kept = torch.rand(num_passes + 1, channels, generator=generator) >= RATE
        scaled = torch.where(torch.arange(num_passes + 1).view(-1, 1) == 0, 1.0, kept / (1 - RATE))
        # With random masks too, so that either kind loads the other's checkpoints.
        self.register_buffer("kept", scaled.view(num_passes + 1, channels, 1, 1))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Drop channels of features (B, C, h, w), or of stacked passes (P * B, C, h, w)."""
        if self.training:
            return F.dropout2d(features, RATE)
        if self.passes is None:
            return features
        stacked = features.unflatten(0, (len(self.passes), -1))
        if self.masks == "fixed":
            return (stacked * self.kept[self.passes.start : self.passes.stop].unsqueeze(1)).flatten(0, 1)
        passes = zip(self.passes, stacked, strict=True)
        return torch.cat([F.dropout2d(values, RATE, training=number > 0) for number, values in passes])


def insert_dropout(network: nn.Module, masks: Literal["fixed", "random"], num_passes: int) -> list[BlockDropout]:
    """Put dropout before the second convolution of every residual block, and the last of every inverted one.

    Inside a block the network can react to it. Behind a stage, the variance would be the squared features' up to a
    factor, which tells nothing about the network. Place and rate are this package's choices.

    Args:
        network: A timm network, changed in place, after any weights were loaded: its names change.
        masks: ``fixed`` or ``random``.
        num_passes: Number of passes for uncertainty.

    Returns:
        The modules that were put in.

    Raises:
        ValueError: If ``masks`` is unknown, or there shall be passes and the network has no such blocks.
    """
    check_choice("mc_masks", masks, MASKS)
    generator = torch.Generator().manual_seed(_SEED)
    inserted = []
    for block in list(network.modules()):
        name = next((name for name in _CONVOLUTIONS if isinstance(getattr(block, name, None), nn.Conv2d)), None)
        if name is None:
            continue
        convolution: Any = getattr(block, name)
        dropout = BlockDropout(convolution.in_channels, masks, num_passes, generator)
        setattr(block, name, nn.Sequential(dropout, convolution))
        inserted.append(dropout)
    if num_passes > 0 and not inserted:
        msg = f"mc_samples={num_passes} needs a backbone with residual or inverted blocks; others need mc_samples=0."
        raise ValueError(msg)
    return inserted
