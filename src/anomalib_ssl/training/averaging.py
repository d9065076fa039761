# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The moving average of a network's weights."""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

Weights = dict[str, torch.Tensor]
"""Parameters and floating point buffers of a module by name."""


class WeightAverage:
    """Exponential moving average of the parameters and floating point buffers of a module.

    Buffers are averaged like weights, as timm does, since the running statistics of batch norm belong to them. Torch's
    ``AveragedModel`` and Lightning's ``WeightAveraging`` ask the device for their number of updates each time, and the
    latter would average the statistics of normal images too.

    Args:
        module: The module that is trained. The average starts from its weights as they are.
        decay: Weight of the past in each update, in [0, 1); see :func:`warm_decay`.
        resumed: The average of an earlier part of the run, to go on with.
    """

    def __init__(self, module: nn.Module, decay: float, resumed: Weights | None = None) -> None:
        self.decay = decay
        self.weights = copied_weights(module)
        for name, value in (resumed or {}).items():
            self.weights[name].copy_(value)

    @torch.no_grad()
    def update(self, module: nn.Module, updates: int) -> None:
        """Take the weights of the module after a number of optimiser updates into account."""
        average = get_ema_multi_avg_fn(warm_decay(updates, self.decay))
        current = live_weights(module)
        average([self.weights[name] for name in current], list(current.values()), torch.empty(0))


def warm_decay(updates: int, decay: float) -> float:
    """Decay of a moving average that forgets its start, so that short runs get a useful one too.

    ``(1 + n) / (10 + n)`` after n updates as long as that is less, as in TensorFlow's ``ExponentialMovingAverage``.
    """
    return min(decay, (1 + updates) / (10 + updates))


def live_weights(module: nn.Module) -> Weights:
    """The parameters and floating point buffers of a module, which share its memory."""
    return {name: value for name, value in module.state_dict().items() if value.is_floating_point()}


@torch.no_grad()
def copied_weights(module: nn.Module) -> Weights:
    """A copy of the parameters and floating point buffers of a module."""
    return {name: value.clone() for name, value in live_weights(module).items()}


@torch.no_grad()
def load_weights(module: nn.Module, weights: Weights) -> None:
    """Write weights into a module, in place."""
    for name, value in live_weights(module).items():
        value.copy_(weights[name])
