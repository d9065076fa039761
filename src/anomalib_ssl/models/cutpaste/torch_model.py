# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of CutPaste: classifier in training, Gaussian density of pooled features in inference."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.components import Backbone
from anomalib_ssl.scoring import GaussianDensity, gradcam, upsample

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class CutPasteModel(nn.Module):
    """Backbone, pretext head and density of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits. In evaluation mode it gives anomaly scores from the density of
    globally average-pooled features, and a GradCAM map of that score; the head takes no part, unless the score
    ``softmax`` asks for it. Images come in [0, 1] and are normalised here, so that an exported graph is complete.

    The paper asks for an MLP head but gives no widths; ``head_dims`` is this package's choice.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        num_classes: Number of pretext classes.
        head_dims: Widths of the head's layers: linear, batch norm and ReLU each, the last linear only.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        gde_l2norm: Whether pooled features are scaled to unit length before the density.
        score: ``density``, or ``softmax`` for the probability of the pasted classes (not in the paper; for debugging).
        map_sigma: Gaussian smoothing of the map, in pixels of the input; 0 for none.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: bool = False,
        num_classes: int = 3,
        head_dims: Sequence[int] = (512, 128),
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        gde_l2norm: bool = True,
        score: Literal["density", "softmax"] = "density",
        map_sigma: float = 4.0,
    ) -> None:
        super().__init__()
        check_choice("score", score, ("density", "softmax"))
        check_number("map_sigma", map_sigma, 0)
        for dim in head_dims:
            check_number("head_dims", dim, 1)
        self.backbone = Backbone(backbone, pretrained)
        self.head = build_head(self.backbone.num_features, head_dims, num_classes)
        self.density = GaussianDensity(self.backbone.num_features, gde_shrinkage, gde_l2norm)
        self.score = score
        self.map_sigma = map_sigma
        self.localize = True
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Classify views in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, num_classes) in training mode; else ``pred_score`` (B,) and, unless localisation is off,
            ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the density was fitted.
        """
        activations = self.activations(images)
        pooled = activations.mean(dim=(2, 3))
        if self.training:
            return self.head(pooled)
        pred_score = self.density(pooled) if self.score == "density" else 1 - self.head(pooled).softmax(dim=1)[:, 0]
        if not self.localize:
            return InferenceBatch(pred_score=pred_score)
        maps = gradcam(activations, self.density.gradient(pooled))
        height, width = images.shape[-2:]
        return InferenceBatch(pred_score=pred_score, anomaly_map=upsample(maps, (height, width), self.map_sigma))

    def activations(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last feature map (B, D, h, w) of images (B, 3, H, W) in [0, 1]."""
        images = (images - self.pixel_mean) / self.pixel_std
        if self.training:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.backbone(images)

    def pooled_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features (B, D) that the density sees."""
        return self.activations(images).mean(dim=(2, 3))

    @contextmanager
    def without_map(self) -> Iterator[None]:
        """Leave localisation out while the context is open."""
        localize, self.localize = self.localize, False
        try:
            yield
        finally:
            self.localize = localize


def build_head(in_features: int, dims: Sequence[int], num_classes: int) -> nn.Sequential:
    """Build the projection head and classifier on top of pooled features.

    Args:
        in_features: Length of a pooled feature.
        dims: Width of each layer: linear without bias, batch norm and ReLU, but the last a plain linear layer.
        num_classes: Number of logits.

    Returns:
        The head, from (B, in_features) to (B, num_classes).
    """
    layers: list[nn.Module] = []
    for dim in dims[:-1]:
        layers += [nn.Linear(in_features, dim, bias=False), nn.BatchNorm1d(dim), nn.ReLU(inplace=True)]
        in_features = dim
    if dims:
        layers.append(nn.Linear(in_features, dims[-1]))
        in_features = dims[-1]
    return nn.Sequential(*layers, nn.Linear(in_features, num_classes))
