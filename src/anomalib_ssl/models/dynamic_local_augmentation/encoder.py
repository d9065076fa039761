# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The encoder: a backbone with dropout in its blocks, and the feature maps of its stages."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from anomalib_ssl.checks import check_whole
from anomalib_ssl.models.components import Backbone
from anomalib_ssl.models.dynamic_local_augmentation.dropout import insert_dropout

DENSE_REDUCTION = 8
"""Pixels of the image, down and across, for each place of the dense branch's map: those of a ResNet's second stage."""


class Encoder(nn.Module):
    """Features of images in [0, 1]: pooled ones, and maps of single stages.

    The stages that are scored have maps of a quarter, an eighth and a sixteenth of the image's size. Scoring runs the
    backbone no further than the last of them.

    Args:
        backbone: Name of a timm network with stages, for example ``resnet18``.
        pre_trained: Whether it starts from timm's pretrained weights; what comes before the dense branch's stage then
            stays as it is.
        mc_samples: Number of passes with dropout for uncertainty; 0 for none.
        mc_masks: ``fixed`` or ``random``; see
            :class:`~anomalib_ssl.models.dynamic_local_augmentation.dropout.BlockDropout`.

    Attributes:
        num_features: Length of a pooled feature.
        num_dense_features: Number of channels of the dense branch's map.
        score_names: Names of the scored stages, the first of the network first.
        frozen: Modules that are not trained, of a pretrained network.

    Raises:
        ValueError: If an argument is outside its limits, or the backbone has no such stages.

    Example:
        >>> import torch
        >>> encoder = Encoder("test_resnet").eval()
        >>> [tuple(features.shape) for features in encoder.maps(torch.zeros(1, 3, 64, 64))]
        [(1, 32, 16, 16), (1, 48, 8, 8), (1, 192, 4, 4)]
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        mc_samples: int = 10,
        mc_masks: Literal["fixed", "random"] = "fixed",
    ) -> None:
        super().__init__()
        check_whole("mc_samples", mc_samples, 0)
        self.backbone = Backbone(backbone, pre_trained)
        network = self.backbone.network
        stages = list(getattr(network, "feature_info", []))
        dense = [index for index, stage in enumerate(stages) if stage["reduction"] == DENSE_REDUCTION]
        if not dense or not hasattr(network, "forward_intermediates"):
            msg = f"backbone must have stages, one with maps of an eighth of the image's size; {backbone!r} has none."
            raise ValueError(msg)
        names = [stage["module"] for stage in stages]
        self.dense_index = dense[:1]
        self.score_names = [names[index] for index in self.backbone.stage_indices]
        self.num_features = self.backbone.num_features
        self.num_dense_features: int = stages[dense[0]]["num_chs"]
        self.mc_samples = mc_samples
        # What finds edges and colours need not be learned anew, and would be unlearned from few images.
        self.frozen = _before(network, names[dense[0]]) if pre_trained else []
        for module in self.frozen:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        self.dropouts = insert_dropout(network, mc_masks, mc_samples)
        self.train()

    def train(self, mode: bool = True) -> "Encoder":
        """Change the mode, of frozen stages excepted: their batch norm keeps its statistics."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled features (B, D) and the dense branch's map (B, C, h, w) of images (B, 3, H, W) in [0, 1]."""
        images = self.backbone.normalized(images)
        last, (dense,) = self.backbone.network.forward_intermediates(images, indices=self.dense_index)
        return last.mean(dim=(2, 3)), dense

    def maps(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps (B, C, h, w) of the scored stages for images (B, 3, H, W) in [0, 1]."""
        return self.backbone.stages(images)

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

    @contextmanager
    def _stacked(self, passes: range) -> Iterator[None]:
        for dropout in self.dropouts:
            dropout.passes = passes
        try:
            yield
        finally:
            for dropout in self.dropouts:
                dropout.passes = None


def _before(network: nn.Module, name: str) -> list[nn.Module]:
    """Modules without parts that are registered before the one of this name."""
    found = []
    for own, module in network.named_modules():
        if own == name:
            break
        if not list(module.children()):
            found.append(module)
    return found
