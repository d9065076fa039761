# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The detector of ST-SSAD: backbone, embedding, and a head that tells augmented images from normal ones."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.components import Backbone, build_head


class Detector(nn.Module):
    """Backbone and head; embeddings are globally average-pooled features of unit length.

    A ResNet-18 from random weights, features of the backbone rather than of the head, and unit length are those of the
    public code of DSV, by the same first author (https://arxiv.org/abs/2307.06534); so is a head of one hidden layer of
    128. The head's form is that of this package's CutPaste.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> detector = Detector().eval()
        >>> embeddings = detector(torch.zeros(2, 3, 64, 64), embed=True)
        >>> embeddings.shape, bool(torch.allclose(embeddings.norm(dim=1), torch.ones(2)))
        (torch.Size([2, 512]), True)
    """

    def __init__(self, backbone: str = "resnet18", pre_trained: bool = False) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, pre_trained)
        self.head = build_head(self.backbone.num_features, 2)

    def forward(self, images: torch.Tensor, embed: bool = False) -> torch.Tensor:
        """Classify or embed images.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            embed: Whether embeddings are wanted.

        Returns:
            Logits (B, 2) of normal and augmented, or embeddings (B, D) of unit length.
        """
        features = self.backbone(images).mean(dim=(2, 3))
        if embed:
            return F.normalize(features, dim=1)
        logits: torch.Tensor = self.head(features)
        return logits
