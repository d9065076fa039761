# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the image and the patch model of CutPaste share: backbone and pretext head."""

from collections.abc import Iterator

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.models.components import Backbone, ScoredModel

HIDDEN, EMBEDDING = 512, 128
"""Widths of the head's layers, this package's choice: the paper asks for an MLP and gives none."""


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


class CutPasteNetwork(ScoredModel):
    """Backbone and pretext head of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits of globally average-pooled features. The subclass says what it is
    scored by in evaluation mode.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored: ``pool`` for the last, ``level7`` for the paper's choice on EfficientNet.
        num_classes: Number of pretext classes.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, scales and shifts, also in training.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        layer: str = "pool",
        num_classes: int = 3,
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, pre_trained, layer)
        self.head = build_head(self.backbone.num_features, num_classes)
        self.freeze_batch_norm = freeze_batch_norm
        self._backbone_frozen = False
        if freeze_batch_norm:
            for module in self._batch_norms():
                module.requires_grad_(False)
            # Modules start in training mode, and Lightning leaves them in the mode they are in.
            self.train()

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Classify views in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, num_classes) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the density was fitted.
        """
        return self.classify(images) if self.training else self.score_images(images)

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Tell which paste, if any, was applied to images (B, 3, H, W) in [0, 1]: logits (B, num_classes)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_frozen):
            features = self.backbone(images).mean(dim=(2, 3))
        return self.head(features)

    def pooled_features(self, images: torch.Tensor) -> torch.Tensor:
        """Average the scored feature map of images (B, 3, H, W) in [0, 1] over all places: shape (B, D)."""
        return self.backbone.scored(images).mean(dim=(2, 3))

    def train(self, mode: bool = True) -> "CutPasteNetwork":
        """Switch to training or evaluation mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batch_norm or self.backbone_frozen:
            for module in self._batch_norms():
                module.eval()
        return self

    @property
    def backbone_frozen(self) -> bool:
        """Whether training leaves the backbone as it is, the statistics of its batch norm included."""
        return self._backbone_frozen

    @backbone_frozen.setter
    def backbone_frozen(self, frozen: bool) -> None:
        if frozen != self._backbone_frozen:
            self._backbone_frozen = frozen
            self.train(self.training)

    def _batch_norms(self) -> Iterator[nn.Module]:
        return (module for module in self.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
