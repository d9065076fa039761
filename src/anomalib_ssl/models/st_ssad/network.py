# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The detector of ST-SSAD: backbone, embedding, and a head that tells augmented images from normal ones."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.components import Backbone
from anomalib_ssl.models.cutpaste.network import IMAGENET_MEAN, IMAGENET_STD, build_head


class Detector(nn.Module):
    """Backbone and head; embeddings are globally average-pooled features of unit length.

    A ResNet-18 from random weights, features of the backbone rather than of the head, and unit length are those of the
    public code of DSV, by the same first author (https://arxiv.org/abs/2307.06534); so is a head of one hidden layer of
    128. The head's form is that of this package's CutPaste.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        head_dims: Widths of the head's layers: linear, batch norm and ReLU each, the last linear only.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> detector = Detector().eval()
        >>> embeddings = detector(torch.zeros(2, 3, 64, 64), embed=True)
        >>> embeddings.shape, bool(torch.allclose(embeddings.norm(dim=1), torch.ones(2)))
        (torch.Size([2, 512]), True)
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self, backbone: str = "resnet18", pretrained: bool = False, head_dims: Sequence[int] = (512, 128)
    ) -> None:
        super().__init__()
        for dim in head_dims:
            check_number("head_dims", dim, 1)
        self.backbone = Backbone(backbone, pretrained)
        self.head = build_head(self.backbone.num_features, head_dims, 2)
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor, embed: bool = False) -> torch.Tensor:
        """Classify or embed images.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            embed: Whether embeddings are wanted.

        Returns:
            Logits (B, 2) of normal and augmented, or embeddings (B, D) of unit length.
        """
        features = self.activations(images).mean(dim=(2, 3))
        if embed:
            return F.normalize(features, dim=1)
        logits: torch.Tensor = self.head(features)
        return logits

    def activations(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last feature map (B, D, h, w) of images (B, 3, H, W) in [0, 1]."""
        images = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        if self.training:
            images = images.contiguous(memory_format=torch.channels_last)
        features: torch.Tensor = self.backbone(images)
        return features
