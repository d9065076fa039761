# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The head that classifies pooled features in a pretext task."""

from torch import nn

HIDDEN, EMBEDDING = 512, 128
"""Widths of the head's layers, this package's choice: the paper on CutPaste asks for an MLP and gives none."""


def build_head(num_features: int, num_classes: int) -> nn.Sequential:
    """Build a head of one hidden layer with batch norm, a linear embedding and a linear classifier.

    Args:
        num_features: Length D of a pooled feature.
        num_classes: Number of logits K.

    Returns:
        The head, from (B, D) to (B, K).
    """
    return nn.Sequential(
        nn.Linear(num_features, HIDDEN, bias=False),
        nn.BatchNorm1d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, EMBEDDING),
        nn.Linear(EMBEDDING, num_classes),
    )
