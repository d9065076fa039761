# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The encoder: a backbone with dropout in its blocks, and the feature maps of its stages."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.components import Backbone
from anomalib_ssl.models.dynamic_local_augmentation.dropout import insert_dropout

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Encoder(nn.Module):
    """Features of images in [0, 1]: pooled ones, and maps of single stages.

    Scoring runs the backbone no further than the last scored stage.

    Args:
        backbone: Name of a timm network with stages, for example ``resnet18``.
        pre_trained: Whether it starts from timm's pretrained weights.
        score_layers: Names of the stages that are scored, as in timm's ``feature_info``.
        dense_layer: Name of the stage for the dense branch.
        dropout_p: Probability of dropout in the blocks; see
            :func:`~anomalib_ssl.models.dynamic_local_augmentation.dropout.insert_dropout`.
        dropout_kind: ``channel`` or ``element``.
        mc_samples: Number of passes with dropout for uncertainty.
        mc_masks: ``fixed`` or ``random``.

    Attributes:
        num_features: Length of a pooled feature.
        num_dense_features: Number of channels of the dense stage.
        num_score_features: Numbers of channels of the scored stages.

    Raises:
        ValueError: If an argument is outside its limits, or the backbone has no stages.

    Example:
        >>> import torch
        >>> encoder = Encoder("test_resnet").eval()
        >>> [tuple(features.shape) for features in encoder.maps(torch.zeros(1, 3, 64, 64))]
        [(1, 32, 16, 16), (1, 48, 8, 8), (1, 192, 4, 4)]
    """

    pixel_mean: torch.Tensor
    pixel_std: torch.Tensor

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        score_layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        dense_layer: str = "layer2",
        dropout_p: float = 0.1,
        dropout_kind: Literal["channel", "element"] = "channel",
        mc_samples: int = 10,
        mc_masks: Literal["fixed", "random"] = "fixed",
    ) -> None:
        super().__init__()
        check_number("mc_samples", mc_samples, 0)
        self.backbone = Backbone(backbone, pre_trained)
        network = self.backbone.network
        stages = {stage["module"]: stage["num_chs"] for stage in getattr(network, "feature_info", [])}
        if not stages or not hasattr(network, "forward_intermediates"):
            msg = f"backbone must be a network with stages, {backbone!r} has none that timm can give."
            raise ValueError(msg)
        self.dense_index = _indices("dense_layer", [dense_layer], list(stages))
        self.score_indices = _indices("score_layers", score_layers, list(stages))
        channels = list(stages.values())
        self.num_features = self.backbone.num_features
        self.num_dense_features: int = channels[self.dense_index[0]]
        self.num_score_features: list[int] = [channels[index] for index in self.score_indices]
        self.score_names = [list(stages)[index] for index in self.score_indices]
        self.dropouts = insert_dropout(network, dropout_p, dropout_kind, mc_masks, mc_samples)
        self.mc_samples = mc_samples if self.dropouts else 0
        self.register_buffer("pixel_mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D) and the dense stage's map (B, C, h, w) of images (B, 3, H, W) in [0, 1]."""
        last, (dense,) = self.backbone.network.forward_intermediates(self.normalized(images), indices=self.dense_index)
        return last.mean(dim=(2, 3)), dense

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps (B, C, h, w) of the scored stages for images (B, 3, H, W) in [0, 1]."""
        return self.backbone.network.forward_intermediates(
            self.normalized(images), indices=self.score_indices, stop_early=True, intermediates_only=True
        )

    def passes(self, images: torch.Tensor, passes: range) -> list[torch.Tensor]:
        """Feature maps of the scored stages in several passes, in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            passes: P consecutive numbers; pass 0 is without dropout, 1 to ``mc_samples`` are with it.

        Returns:
            Maps (P, B, C, h, w).
        """
        with self._stacked(passes):
            maps = self.maps(images.repeat(len(passes), 1, 1, 1))
        return [features.unflatten(0, (len(passes), -1)) for features in maps]

    def normalized(self, images: torch.Tensor) -> torch.Tensor:
        """Bring images (B, 3, H, W) from [0, 1] to the range that backbones are made for."""
        images = (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std
        return images.contiguous(memory_format=torch.channels_last) if self.training else images

    @contextmanager
    def _stacked(self, passes: range) -> Iterator[None]:
        for dropout in self.dropouts:
            dropout.passes = passes
        try:
            yield
        finally:
            for dropout in self.dropouts:
                dropout.passes = None


def _indices(name: str, chosen: Sequence[str], stages: list[str]) -> list[int]:
    """Positions of stages, in ascending order."""
    if not chosen or len(set(chosen)) < len(chosen):
        msg = f"{name} must name some of {stages}, each once, got {chosen!r}."
        raise ValueError(msg)
    for stage in chosen:
        check_choice(name, stage, stages)
    return sorted(stages.index(stage) for stage in chosen)
