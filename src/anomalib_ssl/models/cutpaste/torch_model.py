# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at image level: Gaussian density of globally pooled features, localised by GradCAM."""

from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import GaussianDensity, gradcam, upsample


class CutPasteModel(CutPasteNetwork):
    """The image model of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores from the density of
    globally average-pooled features, and a GradCAM map of that score; the head takes no part, unless the score
    ``softmax`` asks for it.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored; see :class:`CutPasteNetwork`.
        num_classes: Number of pretext classes.
        head_dims: Widths of the head's layers.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, also in training.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        gde_l2norm: Whether pooled features are scaled to unit length before the density.
        score: ``density``, or ``softmax`` for the probability of the pasted classes (not in the paper; for debugging).
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: bool = False,
        layer: str = "pool",
        num_classes: int = 3,
        head_dims: Sequence[int] = (512, 128),
        freeze_batch_norm: bool = False,
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        gde_l2norm: bool = True,
        score: Literal["density", "softmax"] = "density",
        map_sigma: float = 4.0,
    ) -> None:
        check_choice("score", score, ("density", "softmax"))
        check_number("map_sigma", map_sigma, 0)
        super().__init__(backbone, pretrained, layer, num_classes, head_dims, freeze_batch_norm)
        self.density = GaussianDensity(self.backbone.num_scored_features, gde_shrinkage, gde_l2norm)
        self.score = score
        self.map_sigma = map_sigma

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        activations = self.activations(images)
        pooled = activations.mean(dim=(2, 3))
        pred_score = self.density(pooled) if self.score == "density" else 1 - self.classify(images).softmax(dim=1)[:, 0]
        if not self.localize:
            return InferenceBatch(pred_score=pred_score)
        maps = gradcam(activations, self.density.gradient(pooled))
        height, width = images.shape[-2:]
        return InferenceBatch(pred_score=pred_score, anomaly_map=upsample(maps, (height, width), self.map_sigma))

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of pooled features to clean training images in batches (B, 3, H, W), values in [0, 1]."""
        self.density.fit_batches(self.pooled_features(batch) for batch in images)

    def activations(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the scored feature map (B, D, h, w) of images (B, 3, H, W) in [0, 1]."""
        return self.backbone.scored(self.normalized(images))

    def pooled_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, D) that the density sees."""
        return self.activations(images).mean(dim=(2, 3))
