# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bringing scores of different models to one scale."""

import torch
from torch import nn


class Standardizer(nn.Module):
    """Subtract the mean of normal scores and divide by their standard deviation.

    Mean and deviation come from :meth:`update`, batch by batch, and travel with the state dict. Before the first update
    values pass unchanged; where all normal scores are equal they are only shifted.

    Example:
        >>> import torch
        >>> standardize = Standardizer()
        >>> standardize.update(torch.tensor([1.0, 3.0]))
        >>> standardize(torch.tensor([2.0, 4.0]))
        tensor([0., 2.])
    """

    count: torch.Tensor
    mean: torch.Tensor
    squares: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("squares", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Standardise scores of any shape."""
        return (scores - self.mean) / self.deviation

    @torch.no_grad()
    def update(self, scores: torch.Tensor) -> None:
        """Take normal scores of any shape into account (Chan, Golub and LeVeque's rule for merging variances)."""
        # On the host in float64: a mean over millions of pixels is beyond float32.
        values = scores.detach().cpu().double()
        count, mean, squares = (int(self.count), float(self.mean), float(self.squares))
        total = count + values.numel()
        shift = float(values.mean()) - mean
        squares += float((values - values.mean()).square().sum()) + shift**2 * count * values.numel() / total
        self.count.fill_(total)
        self.mean.fill_(mean + shift * values.numel() / total)
        self.squares.fill_(squares)
        deviation = (squares / total) ** 0.5
        self.deviation.fill_(deviation if deviation > 0 else 1.0)

    def reset(self) -> None:
        """Forget all scores."""
        self.count.zero_()
        self.mean.zero_()
        self.squares.zero_()
        self.deviation.fill_(1.0)
