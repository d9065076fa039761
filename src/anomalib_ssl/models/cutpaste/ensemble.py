# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Several CutPaste models as one."""

from collections.abc import Iterable, Sequence

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import Exposure


class CutPasteEnsemble(nn.Module):
    """The mean of the anomaly scores of several CutPaste models (Li et al., CVPR 2021, section 4.1, 5 models).

    Models trained from different random weights give scores of different scales; what is averaged here are those on
    the scorer's common one. The paper does not say whether it does this.

    In training mode each model classifies views of its own; their losses do not meet, so that all learn as they would
    alone.

    Args:
        members: The models, of equal kind and different weights.

    Raises:
        ValueError: If there are no members.
    """

    def __init__(self, members: Sequence[CutPasteNetwork]) -> None:
        super().__init__()
        if not members:
            msg = "members must hold at least one model, got none."
            raise ValueError(msg)
        self.members = nn.ModuleList(members)
        self.exposure = Exposure()

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Classify views in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1]. In training mode equally many views for each member, those of
                the first member first.

        Returns:
            Logits (B, num_classes) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before all members were fitted.
        """
        if self.training:
            shares = images.chunk(len(self.members))
            return torch.cat([member(share) for member, share in zip(self.members, shares, strict=True)])
        images = self.exposure(images)
        batches = [member(images) for member in self.members]
        return InferenceBatch(
            pred_score=torch.stack([batch.pred_score for batch in batches]).mean(dim=0),
            anomaly_map=torch.stack([batch.anomaly_map for batch in batches]).mean(dim=0),
        )

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """The mean of all members' logits (B, num_classes) of images (B, 3, H, W) in [0, 1]."""
        return torch.stack([member.classify(images) for member in self._typed_members()]).mean(dim=0)

    def fit(self, images: Iterable[torch.Tensor], held_out: Iterable[torch.Tensor] = ()) -> None:
        """Fit what each member compares with.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. Gone through repeatedly.
            held_out: Clean images that were not trained on, likewise.

        Raises:
            ValueError: If there are fewer than 2 images.
        """
        for member in self._typed_members():
            member.fit(images, held_out)

    @property
    def backbone_frozen(self) -> bool:
        """Whether training leaves the backbones as they are."""
        return all(member.backbone_frozen for member in self._typed_members())

    @backbone_frozen.setter
    def backbone_frozen(self, frozen: bool) -> None:
        for member in self._typed_members():
            member.backbone_frozen = frozen

    def _typed_members(self) -> list[CutPasteNetwork]:
        return [member for member in self.members if isinstance(member, CutPasteNetwork)]
