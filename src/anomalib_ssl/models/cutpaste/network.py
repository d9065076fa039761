# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the image and the patch model of CutPaste share: backbone, pretext head, pixel scaling."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.components import Backbone

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class CutPasteNetwork(nn.Module, ABC):
    """Backbone and pretext head of CutPaste (Li et al., CVPR 2021; https://arxiv.org/abs/2104.04015).

    In training mode the model gives class logits of globally average-pooled features. What it gives in evaluation mode
    is up to the subclass. Images come in [0, 1] and are normalised here, so that an exported graph is complete.

    The paper asks for an MLP head but gives no widths; ``head_dims`` is this package's choice.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored: ``pool`` for the last, ``level7`` for the paper's choice on EfficientNet.
        num_classes: Number of pretext classes.
        head_dims: Widths of the head's layers: linear, batch norm and ReLU each, the last linear only.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, scales and shifts, also in training.

    Attributes:
        localize: Whether evaluation gives an anomaly map.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: bool = False,
        layer: str = "pool",
        num_classes: int = 3,
        head_dims: Sequence[int] = (512, 128),
        freeze_batch_norm: bool = False,
    ) -> None:
        super().__init__()
        for dim in head_dims:
            check_number("head_dims", dim, 1)
        self.backbone = Backbone(backbone, pretrained, layer)
        self.head = build_head(self.backbone.num_features, head_dims, num_classes)
        self.freeze_batch_norm = freeze_batch_norm
        self._backbone_frozen = False
        self.localize = True
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)
        if freeze_batch_norm:
            for module in self._batch_norms():
                module.requires_grad_(False)
            # Modules start in training mode, and Lightning leaves them in the mode they are in.
            self.train()

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
        return self.classify(images) if self.training else self.score_images(images)

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Tell which paste, if any, was applied to images (B, 3, H, W) in [0, 1]: logits (B, num_classes)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.backbone_frozen):
            features = self.backbone(self.normalized(images)).mean(dim=(2, 3))
        logits: torch.Tensor = self.head(features)
        return logits

    @abstractmethod
    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]."""

    @abstractmethod
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of normal features, in evaluation mode and without gradients.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through repeatedly.

        Raises:
            ValueError: If there are fewer than 2 images.
        """

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images (B, 3, H, W) from [0, 1] to the range that backbones are made for."""
        images = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        return images.contiguous(memory_format=torch.channels_last) if self.training else images

    def train(self, mode: bool = True) -> "CutPasteNetwork":
        """Switch to training or evaluation mode; frozen batch norm stays in evaluation mode."""
        super().train(mode)
        if self.freeze_batch_norm or self.backbone_frozen:
            for module in self._batch_norms():
                module.eval()
        return self

    @property
    def backbone_frozen(self) -> bool:
        """Whether training leaves the backbone as it is, the statistics of its batch norm included."""
        return self._backbone_frozen

    @backbone_frozen.setter
    def backbone_frozen(self, frozen: bool) -> None:
        if frozen != self._backbone_frozen:
            self._backbone_frozen = frozen
            self.train(self.training)

    def _batch_norms(self) -> Iterator[nn.Module]:
        return (module for module in self.backbone.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))

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
