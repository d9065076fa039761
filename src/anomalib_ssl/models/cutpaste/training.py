# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What CutPaste at image level and at patch level share: the pretext task and its training."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from anomalib_ssl.augmentations import BlendedPatch, ColorJitter, CutPaste, CutPasteScar, RandomShift
from anomalib_ssl.checks import check_choice, check_number, check_whole
from anomalib_ssl.inspection import Column, Inspection, scored_map
from anomalib_ssl.models.cutpaste.ensemble import CutPasteEnsemble
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.models.cutpaste.views import VARIANTS, CutPasteViews
from anomalib_ssl.plain_data import from_mapping
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from anomalib_ssl.training.schedule import fine_tuning_schedule

OPTIMIZERS: Mapping[str, float] = {"adamw": 1e-3, "sgd": 0.03}
"""Initial learning rates by optimiser: AdamW learns the task in less than half of the updates, SGD is the paper's."""

MOMENTUM = 0.9
"""Momentum of SGD, the paper's."""

WEIGHT_DECAY: Mapping[str, float] = {"adamw": 1e-4, "sgd": 3e-5}
"""Penalty on all weights by optimiser: the first is this package's choice, the second the paper's."""


class CutPasteTraining(SelfSupervisedMixin):
    """Train one or several networks to tell which paste, if any, was applied to an image.

    The datamodule's ``train_batch_size`` is the number of source images per update; each gives two to four views.

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights, and keeps the statistics of its batch
            norm. The paper's ResNet-18 does not.
        variant: Pretext task: ``normal``, ``scar``, ``union`` or ``3way``; beyond the paper ``blended`` or ``4way``.
        patch: The large patches that are pasted.
        scar: The scars that are pasted.
        blended: The patches of other images that are blended in, by ``blended`` and ``4way``.
        shift: Translation of the base image, of all its views alike.
        jitter: Colour jitter of the base image, of all its views alike.
        ensemble: Number of networks trained side by side from different random weights, and scored as one by the mean
            of their standardised scores. Training time grows with it.
        optimizer: ``adamw``, or the paper's ``sgd``, which takes more than twice the updates.
        lr: Initial learning rate, decayed to zero along a cosine. Defaults to 0.001 of ``adamw`` and the paper's 0.03
            of ``sgd``.
        freeze_updates: Updates at the start in which only the head is trained, for pretrained backbones; part of the
            budget, with a cosine of their own.
        finetune_lr: Initial learning rate after ``freeze_updates``. Defaults to ``lr``.
        **training: Arguments that all models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        variant: Literal["normal", "scar", "union", "3way", "blended", "4way"] = "3way",
        patch: CutPaste = CutPaste(),
        scar: CutPasteScar = CutPasteScar(),
        blended: BlendedPatch = BlendedPatch(),
        shift: RandomShift = RandomShift(),
        jitter: ColorJitter = ColorJitter(),
        ensemble: int = 1,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        lr: float | None = None,
        freeze_updates: int = 0,
        finetune_lr: float | None = None,
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_whole("ensemble", ensemble, 1)
        check_choice("optimizer", optimizer, OPTIMIZERS)
        lr = OPTIMIZERS[optimizer] if lr is None else lr
        check_number("lr", lr, 1e-12)
        check_whole("freeze_updates", freeze_updates, 0)
        if finetune_lr is not None:
            check_number("finetune_lr", finetune_lr, 0)
            if freeze_updates == 0:
                msg = f"finetune_lr={finetune_lr} is for what follows freeze_updates, which is 0; set lr instead."
                raise ValueError(msg)
        self.optimizer = optimizer
        self.lr = lr
        self.freeze_updates = freeze_updates
        self.finetune_lr = finetune_lr
        self.num_members = ensemble
        self.views = CutPasteViews(
            variant,
            patch=from_mapping(CutPaste, patch, "patch"),
            scar=from_mapping(CutPasteScar, scar, "scar"),
            shift=from_mapping(RandomShift, shift, "shift"),
            jitter=from_mapping(ColorJitter, jitter, "jitter"),
            blended=from_mapping(BlendedPatch, blended, "blended"),
        )
        self._network_arguments: dict[str, Any] = {
            "backbone": backbone,
            "pre_trained": pre_trained,
            "num_classes": self.views.num_classes,
            "freeze_batch_norm": pre_trained,
        }
        self.loss = nn.CrossEntropyLoss()

    def build(self, network: type[CutPasteNetwork], **own: Any) -> None:
        """Draw the weights of one network, or of several.

        Args:
            network: Class of the network.
            **own: Its arguments but for those that all kinds share.
        """
        with self.drawing_weights():
            members = [network(**self._network_arguments, **own) for _ in range(self.num_members)]
        self.model: CutPasteNetwork | CutPasteEnsemble = (
            members[0] if self.num_members == 1 else CutPasteEnsemble(members)
        )

    def setup(self, stage: str) -> None:
        """Let processes do without gradients of a frozen backbone."""
        super().setup(stage)
        several = getattr(self.trainer.strategy, "_ddp_kwargs", None)
        if self.freeze_updates > 0 and several is not None:
            # The frozen backbone has no gradients that processes could wait for.
            several.setdefault("find_unused_parameters", True)

    def augment(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make views of images and their labels, for each network views of its own."""
        made = [self.views(images) for _ in range(self.num_members)]
        views, labels = made[0] if len(made) == 1 else map(torch.cat, zip(*made, strict=True))
        return views, labels

    def losses(self, augmented: tuple[torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Classify views, and sum over the networks: each shall learn as from the mean over its own views."""
        views, labels = augmented
        self.model.backbone_frozen = self.trainer.global_step < self.freeze_updates
        return {"loss": self.loss(self.model(views).float(), labels) * self.num_members}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The learning rate is decayed to zero along a cosine over the updates that will really be run."""
        weights, decay = self.model.parameters(), WEIGHT_DECAY[self.optimizer]
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(weights, lr=self.lr, momentum=MOMENTUM, weight_decay=decay)
            if self.optimizer == "sgd"
            else torch.optim.AdamW(weights, lr=self.lr, weight_decay=decay)
        )
        factors = (1.0, 1.0 if self.finetune_lr is None else self.finetune_lr / self.lr)
        return self.scheduled(optimizer, fine_tuning_schedule, head_updates=self.freeze_updates, factors=factors)

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show views as training makes them, and below each what the classifier takes it for."""
        names = VARIANTS[self.views.variant]
        views, _ = self.views(images)
        chances = self.model.classify(views).softmax(dim=1).unflatten(0, (len(names), -1))
        columns, numbers = [Column("input", images)], []
        for label, (name, view, chance) in enumerate(zip(names, views.split(len(images)), chances, strict=True)):
            best, guess = chance.max(dim=1)
            words = [f"{names[k]} {p:.0%}" for k, p in zip(guess.tolist(), best.tolist(), strict=True)]
            columns.append(Column(name, view, words))
            means = zip(names, chance.mean(dim=0).tolist(), strict=True)
            accuracy = (guess == label).float().mean()
            numbers.append({"view": name, "accuracy": float(accuracy), **{f"p({other})": p for other, p in means}})
        note = "p(...): mean probability that the classifier gives"
        return Inspection([*columns, scored_map(images, self.model(images))], numbers, note)
