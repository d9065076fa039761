# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at image level: scores from densities of the features that the network has learned."""

from typing import Any

import torch

from anomalib_ssl.models.components import feature_evidence, feature_scorer
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import Evidence


class CutPasteModel(CutPasteNetwork):
    """The image model of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores and heat maps; the head
    takes no part. The paper's score is ``density``, its map ``gradcam``; see
    :func:`~anomalib_ssl.models.components.feature_scorer` for the others.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        image_size: Height and width in pixels of the images.
        **network: Further arguments of :class:`CutPasteNetwork`.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        image_size: tuple[int, int] = (256, 256),
        **network: Any,
    ) -> None:
        super().__init__(backbone, **network)
        self.scorer = feature_scorer(self.backbone, image_size, score, heat_map)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W) in [0, 1]."""
        return feature_evidence(self.backbone, images, names)
