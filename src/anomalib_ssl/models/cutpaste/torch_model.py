# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at image level: scores from densities of the features that the network has learned."""

import torch

from anomalib_ssl.models.components import ScoredModel, feature_evidence, feature_scorer
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import Evidence


class CutPasteModel(ScoredModel, CutPasteNetwork):
    """The image model of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores and heat maps; the head
    takes no part. The paper's score is ``density``, its map ``gradcam``; see
    :func:`~anomalib_ssl.models.components.feature_scorer` for the others.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is pooled; see :class:`CutPasteNetwork`.
        num_classes: Number of pretext classes.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, also in training.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        image_size: Height and width in pixels of the images.

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
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        image_size: tuple[int, int] = (256, 256),
    ) -> None:
        super().__init__(backbone, pre_trained, layer, num_classes, freeze_batch_norm)
        self.scorer = feature_scorer(self.backbone, image_size, score, heat_map)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W) in [0, 1]."""
        return feature_evidence(self.backbone, images, names)
