# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at image level: Gaussian density of globally pooled features, localised by GradCAM."""

from collections.abc import Iterable
from typing import Literal

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import GaussianDensity, gradcam, upsample


class CutPasteModel(CutPasteNetwork):
    """The image model of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores from the density of
    globally average-pooled features, and a GradCAM map of that score; the head takes no part.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored; see :class:`CutPasteNetwork`.
        num_classes: Number of pretext classes.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, also in training.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.

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
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        map_sigma: float = 4.0,
    ) -> None:
        check_number("map_sigma", map_sigma, 0)
        super().__init__(backbone, pre_trained, layer, num_classes, freeze_batch_norm)
        self.density = GaussianDensity(self.backbone.num_scored_features, gde_shrinkage)
        self.map_sigma = map_sigma

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        activations = self.backbone.scored(images)
        pooled = activations.mean(dim=(2, 3))
        maps = gradcam(activations, self.density.gradient(pooled))
        height, width = images.shape[-2:]
        return InferenceBatch(
            pred_score=self.density(pooled), anomaly_map=upsample(maps, (height, width), self.map_sigma)
        )

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of pooled features to clean training images in batches (B, 3, H, W), values in [0, 1]."""
        self.density.fit(self.pooled_features(batch) for batch in images)
