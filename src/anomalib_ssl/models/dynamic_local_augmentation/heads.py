# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Projectors and predictors of the global, the dense and the negative branch."""

from typing import NamedTuple

import torch
from torch import nn


class Projection(NamedTuple):
    """What a head makes of features.

    Attributes:
        projected: The projector's result, the target of a comparison, of shape (B, D) or (B, D, h, w).
        predicted: The predictor's result from it, of the same shape.
    """

    projected: torch.Tensor
    predicted: torch.Tensor

    def halves(self) -> tuple["Projection", "Projection"]:
        """Those of the first half of the batch, and those of the second."""
        projected, predicted = self.projected.chunk(2), self.predicted.chunk(2)
        return Projection(projected[0], predicted[0]), Projection(projected[1], predicted[1])


class GlobalHead(nn.Module):
    """Projector of three layers and predictor of two with a bottleneck, for pooled features.

    The layers are those of SimSiam (Chen and He, "Exploring simple siamese representation learning", CVPR 2021,
    section 3 and its code), the hidden width being that of the features. Batch norm at the projector's end has no
    scale or shift.

    Args:
        in_features: Length of a pooled feature.
        dim: Length of a projection; the predictor's bottleneck has a quarter of it.
    """

    def __init__(self, in_features: int, dim: int = 2048) -> None:
        super().__init__()
        hidden = in_features
        self.projector = nn.Sequential(
            nn.Linear(in_features, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden, bias=False),
            nn.BatchNorm1d(hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, dim, bias=False),
            nn.BatchNorm1d(dim, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Linear(dim, dim // 4, bias=False),
            nn.BatchNorm1d(dim // 4),
            nn.ReLU(inplace=True),
            nn.Linear(dim // 4, dim),
        )

    def forward(self, features: torch.Tensor) -> Projection:
        """Project features (B, C)."""
        projected = self.projector(features)
        return Projection(projected, self.predictor(projected))


class DenseHead(nn.Module):
    """Convolutional projector and predictor for every place of a feature map; widths are this package's choice.

    Args:
        in_features: Number of channels of the map.
        dim: Length of a projection, 128 as in DenseCL (Wang et al., CVPR 2021); the bottleneck has a quarter of it.
    """

    def __init__(self, in_features: int, dim: int = 128) -> None:
        super().__init__()
        hidden = 4 * in_features
        self.projector = nn.Sequential(
            nn.Conv2d(in_features, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, dim, 1, bias=False),
            nn.BatchNorm2d(dim, affine=False),
        )
        self.predictor = nn.Sequential(
            nn.Conv2d(dim, dim // 4, 1, bias=False),
            nn.BatchNorm2d(dim // 4),
            nn.ReLU(inplace=True),
            nn.Conv2d(dim // 4, dim, 1),
        )

    def forward(self, features: torch.Tensor) -> Projection:
        """Project features (B, C, h, w)."""
        projected = self.projector(features)
        return Projection(projected, self.predictor(projected))
