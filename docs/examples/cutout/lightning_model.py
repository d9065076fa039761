# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The model that anomalib trains."""

from collections.abc import Mapping
from typing import Any

import torch
from anomalib.models import AnomalibModule
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_number
from anomalib_ssl.plain_data import from_mapping
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from cutout.augmentation import Cutout
from cutout.torch_model import CutoutModel


class CutoutNet(SelfSupervisedMixin, AnomalibModule):
    """Learn to notice rectangles of one grey, then compare features with those of normal images.

    Args:
        backbone: Name of a timm network.
        lr: Learning rate of Adam.
        rectangle: Arguments of :class:`Cutout`.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        **training: Arguments that all models share.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its limits.
    """

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {"score", "heat_map"}

    def __init__(
        self,
        backbone: str = "resnet18",
        lr: float = 1e-3,
        rectangle: Cutout | Mapping[str, Any] = Cutout(),  # noqa: B008  # it is frozen
        score: str = "normed_places_top",
        heat_map: str = "normed_places",
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_number("lr", lr, 1e-9)
        self.lr = lr
        self.rectangle = from_mapping(Cutout, rectangle, "rectangle")
        with self.drawing_weights():
            self.model: CutoutModel = CutoutModel(backbone, score, heat_map, self.size)

    def augment(self, images: torch.Tensor) -> torch.Tensor:
        """Images, then the same with rectangles."""
        return torch.cat([images, self.rectangle(images)[0]])

    def losses(self, augmented: torch.Tensor) -> dict[str, torch.Tensor]:
        """Tell the one from the other."""
        logits = self.model(augmented).float()
        labels = torch.arange(2, device=logits.device).repeat_interleave(len(augmented) // 2).float()
        return {"loss": F.binary_cross_entropy_with_logits(logits, labels)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.model.parameters(), lr=self.lr)
