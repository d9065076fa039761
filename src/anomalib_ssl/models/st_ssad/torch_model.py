# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD's detector with its scores: Gaussian density of embeddings, localised by GradCAM."""

from collections.abc import Iterable
from typing import Literal

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.st_ssad.network import Detector
from anomalib_ssl.scoring import GaussianDensity, gradcam, upsample


class STSSADModel(nn.Module):
    """Detector and anomaly scores.

    In training mode the model gives logits; in evaluation mode scores, and a GradCAM map of the density. ST-SSAD's own
    score is not known to us, and it gives no map: the density is that of DSV's public code, the map that of this
    package's CutPaste.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ledoit_wolf",
        map_sigma: float = 4.0,
    ) -> None:
        super().__init__()
        check_number("map_sigma", map_sigma, 0)
        self.detector = Detector(backbone, pre_trained)
        self.density = GaussianDensity(self.detector.backbone.num_features, gde_shrinkage)
        self.map_sigma = map_sigma

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Classify images in training mode, score them in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, 2) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the density was fitted.
        """
        if self.training:
            logits: torch.Tensor = self.detector(images)
            return logits
        activations = self.detector.backbone(images)
        pooled = activations.mean(dim=(2, 3))
        maps = gradcam(activations, self.density.gradient(pooled))
        size = (images.shape[-2], images.shape[-1])
        return InferenceBatch(pred_score=self.density(pooled), anomaly_map=upsample(maps, size, self.map_sigma))

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density to clean training images in batches (B, 3, H, W), values in [0, 1].

        Raises:
            ValueError: If there are fewer than 2 images.
        """
        self.density.fit(self.detector(batch, embed=True) for batch in images)
