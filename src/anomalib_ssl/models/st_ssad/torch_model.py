# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD's detector with its scores."""

from typing import Literal

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.components import ScoredModel, feature_evidence, feature_scorer
from anomalib_ssl.models.st_ssad.network import Detector
from anomalib_ssl.scoring import Evidence


class STSSADModel(ScoredModel):
    """Detector and anomaly scores.

    In training mode the model gives logits; in evaluation mode scores and heat maps. ST-SSAD's own score is not known
    to us, and it gives no map: ``density`` is that of DSV's public code, the others are those of
    :func:`~anomalib_ssl.models.components.feature_scorer`.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.
        image_size: Height and width in pixels of the images.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ledoit_wolf",
        score: str = "normed_places_top",
        heat_map: str = "normed_places",
        map_sigma: float = 4.0,
        image_size: tuple[int, int] = (256, 256),
    ) -> None:
        super().__init__()
        check_number("map_sigma", map_sigma, 0)
        self.detector = Detector(backbone, pre_trained)
        self.scorer = feature_scorer(self.detector.backbone, image_size, score, heat_map, gde_shrinkage, map_sigma)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Classify images in training mode, score them in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, 2) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the densities were fitted.
        """
        if not self.training:
            return self.score_images(images)
        logits: torch.Tensor = self.detector(images)
        return logits

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W) in [0, 1]."""
        return feature_evidence(self.detector.backbone, images, names)
