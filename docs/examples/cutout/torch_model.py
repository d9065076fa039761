# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network, and what images are compared with."""

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.models.components import Backbone, ScoredModel
from anomalib_ssl.models.components.feature_scoring import feature_evidence, feature_scorer
from anomalib_ssl.scoring import Evidence


class CutoutModel(ScoredModel):
    """A backbone that tells images with a rectangle from those without.

    Args:
        backbone: Name of a timm network.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        image_size: Height and width in pixels of the images.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(self, backbone: str, score: str, heat_map: str, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = Backbone(backbone)
        self.head = nn.Linear(self.backbone.num_features, 1)
        self.scorer = feature_scorer(self.backbone, image_size, score, heat_map)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Give logits (B,) in training mode, scores and maps in evaluation mode, of images (B, 3, H, W) in [0, 1]."""
        if not self.training:
            return self.score_images(images)
        logits: torch.Tensor = self.head(self.backbone(images).mean(dim=(2, 3))).squeeze(1)
        return logits

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W), of three stages where they are wanted."""
        return feature_evidence(self.backbone, images, names)
