# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at image level: Gaussian density of globally pooled features, localised by places or by GradCAM."""

from collections.abc import Iterable
from typing import Literal

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import GaussianDensity, PlaceDistance, gradcam, upsample


class CutPasteModel(CutPasteNetwork):
    """The image model of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores from the density of
    globally average-pooled features, and a heat map; the head takes no part. The map is how far the features of each
    place are from those of normal images, see :class:`~anomalib_ssl.scoring.PlaceDistance`, or GradCAM of the score.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored; see :class:`CutPasteNetwork`.
        num_classes: Number of pretext classes.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, also in training.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.
        image_size: Height and width in pixels of the images whose places are compared; None for GradCAM.

    Raises:
        ValueError: If an argument is outside its limits, or the backbone gives no feature maps to compare places in.
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
        image_size: tuple[int, int] | None = None,
    ) -> None:
        check_number("map_sigma", map_sigma, 0)
        super().__init__(backbone, pre_trained, layer, num_classes, freeze_batch_norm)
        self.density = GaussianDensity(self.backbone.num_scored_features, gde_shrinkage)
        self.map_sigma = map_sigma
        self.places = None if image_size is None else PlaceDistance(self._stage_shapes(image_size))

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        if self.places is None:
            activations = self.backbone.scored(images)
            pooled = activations.mean(dim=(2, 3))
            maps = gradcam(activations, self.density.gradient(pooled))
        else:
            activations, stages = self.backbone.scored_and_stages(images)
            pooled = activations.mean(dim=(2, 3))
            maps = self.places(stages)
        height, width = images.shape[-2:]
        return InferenceBatch(
            pred_score=self.density(pooled), anomaly_map=upsample(maps, (height, width), self.map_sigma)
        )

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit what is compared with to clean training images in batches (B, 3, H, W), values in [0, 1]."""
        self.density.fit(self.pooled_features(batch) for batch in images)
        if self.places is not None:
            self.places.fit(lambda: (self.backbone.scored_and_stages(batch)[1] for batch in images))

    @torch.no_grad()
    def _stage_shapes(self, image_size: tuple[int, int]) -> list[tuple[int, int, int]]:
        if not self.backbone.stage_indices:
            msg = f"localization='places' needs a backbone with stages, got {self.backbone.name!r}; 'gradcam' does not."
            raise ValueError(msg)
        training = self.training
        _, stages = self.eval().backbone.scored_and_stages(torch.zeros(1, 3, *image_size))
        self.train(training)
        return [(stage.shape[1], stage.shape[2], stage.shape[3]) for stage in stages]
