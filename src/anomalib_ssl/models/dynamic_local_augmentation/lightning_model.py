# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Contrast against dynamically weighted local augmentations as an anomalib model.

Yoa, Lee, Kim and Kim, "Self-Supervised Learning for Anomaly Detection With Dynamic Local Augmentation", IEEE Access 9,
2021, 147201-147211, https://doi.org/10.1109/ACCESS.2021.3124525.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.models import AnomalibModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from anomalib_ssl.augmentations import BlendedPatch, LocalAugmentation
from anomalib_ssl.checks import check_number
from anomalib_ssl.inspection import Inspection
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.dynamic_local_augmentation import inspection
from anomalib_ssl.models.dynamic_local_augmentation.collapse import CollapseMonitor, spread
from anomalib_ssl.models.dynamic_local_augmentation.loss import ContrastiveLoss
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import DISTANCE, DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews, TrainingViews
from anomalib_ssl.plain_data import from_mapping
from anomalib_ssl.training.images.clean import images_per_update
from anomalib_ssl.training.mixin import SelfSupervisedMixin

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
"""Momentum of SGD and L2 penalty on all weights, by the secondary note."""


class DynamicLocalAugmentation(SelfSupervisedMixin, AnomalibModule):
    """Learn equal features of normal images and opposite ones where they are augmented; score by the distance.

    A network learns without labels that two views of normal images are alike, and that an image is unlike itself where
    one rectangle is rotated, discoloured, jumbled or drained of colour, the more so the operation that changes more.
    The paper's anomaly map is the distance of an image's feature maps to the mean ones of the training images, plus how
    much more or less than normal they vary under dropout; by default how unlikely features are at their place, together
    with those of random filters, makes map and score.

    From the paper's abstract and keywords: contrast with dynamically weighted local augmentations as negative samples,
    and uncertainty. By a secondary note on it: ResNet-18 from scratch, SimSiam's losses, three terms with weights of 1,
    0.1 and 0.5, the four operations and sizes of the rectangle, weights by squared change, distance to the mean maps of
    three stages, dropout, weights of distance and uncertainty of 1 and 0.1, SGD with momentum and weight decay. Its
    text was not available: everything else is this package's choice, among it how the weights enter, negatives of
    places by default, the views, place and rate of dropout, ``standardize``, the image's score, the learning rate and
    the budget.

    The datamodule's ``train_batch_size`` is the number of images per update; each gives two views and a negative. A
    batch of a single image is trained on as two of the same.

    Args:
        backbone: Name of a timm network with stages.
        pre_trained: Whether it starts from timm's pretrained weights, of which the stages before that of the dense
            branch stay as they are. The paper's does not, by the note.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        lr: Learning rate of SGD for updates of 256 images; it is scaled in proportion to their number, and decayed to
            zero along a cosine. The note's is 0.02, for batches of 200, with which short runs learn next to nothing.
        negative_weight: Weight of the loss that makes features of an image and its locally augmented counterpart
            unlike, 0.5 by the note; 0 leaves the branch out.
        local_weight: Weight of the loss that makes features of places unlike where the counterpart is changed, and
            alike elsewhere; 0 leaves it out. It beat ``negative_weight`` wherever both were measured
            (docs/results/dynamic_local_augmentation.md).
        views: How the views are made.
        local: How the negatives are made. Sizes in pixels are those of the image, of which a view is a part.
        blended: Share of the images whose negative has patches of other images blended in instead, see
            :class:`~anomalib_ssl.augmentations.BlendedPatch`; this package's choice.
        mc_samples: Number of passes with dropout that the variance is taken over; 0 for no uncertainty.
        mc_masks: ``fixed`` for the same masks at each call, which can be exported, or ``random`` for literal
            Monte-Carlo dropout.
        standardize: Whether each channel of a feature map is brought to a mean of 0 and a standard deviation of 1 over
            the image, so that its light and contrast count for little, and squared distances are divided by how much
            their place and channel vary over the training images, so that stages, and distance and uncertainty, are
            comparable. Without, feature maps are compared as they are, as the note has it.
        score: How images are scored: ``density`` of pooled features; a map's ``_max``, ``_top`` or ``_mean``, as in
            ``distance_max``; or ``auto`` for what tells defects planted in held-out images best.
        heat_map: How defects are located: ``distance``, the note's if ``standardize`` is false; ``places``, how
            unlikely features of three stages are at their place; ``normed_places``, the same without an image's own
            contrast; ``filters`` and ``fine_filters``, likewise of :class:`~anomalib_ssl.scoring.RandomFilters`;
            ``places_and_filters``, of both together; ``gradcam`` of the density; several joined by ``+``; or ``auto``,
            chosen likewise.
        **training: Arguments that all models share; see
            :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import DynamicLocalAugmentation
        >>> model = DynamicLocalAugmentation(seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    loss: ContrastiveLoss

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {"heat_map", "score", "standardize"}
    fitted_by = SelfSupervisedMixin.fitted_by | {"standardize"}

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        max_updates: int = 2_000,
        lr: float = 0.5,
        negative_weight: float = 0.0,
        local_weight: float = 1.0,
        views: GlobalViews = GlobalViews(),
        local: LocalAugmentation = LocalAugmentation(),
        blended: float = 0.5,
        mc_samples: int = 10,
        mc_masks: Literal["fixed", "random"] = "fixed",
        standardize: bool = True,
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(max_updates=max_updates, **training)
        check_number("lr", lr, 1e-12)
        check_number("blended", blended, 0, 1)
        self.lr = lr
        self.mc_masks = mc_masks
        self.blended = blended
        self.standardize = standardize
        self.views = from_mapping(GlobalViews, views, "views")
        self.local = from_mapping(LocalAugmentation, local, "local")
        self.loss = ContrastiveLoss(negative_weight, local_weight)
        with self.drawing_weights():
            self.model: DynamicLocalAugmentationModel = DynamicLocalAugmentationModel(
                self.size,
                use_negative=negative_weight > 0,
                use_local=local_weight > 0,
                standardize=standardize,
                score=score,
                heat_map=heat_map,
                backbone=backbone,
                pre_trained=pre_trained,
                mc_samples=mc_samples,
                mc_masks=mc_masks,
            )
        self._monitor = CollapseMonitor()

    def on_train_start(self) -> None:
        """Watch for a collapse from here on."""
        super().on_train_start()
        self._monitor = CollapseMonitor()

    def augment(self, images: torch.Tensor) -> TrainingViews:
        """Make two views of each image, and a locally augmented version of the first."""
        if len(images) == 1:
            # Batch norm cannot do with a single image.
            images = images.repeat(2, 1, 1, 1)
        first, second = self.views(images), self.views(images)
        if not self.model.augments:
            return TrainingViews(torch.cat([first, second]), None)
        local = self.local
        if local.reference_size is not None:
            # A view is a part of the image, not a smaller one.
            share = min(first.shape[-2:]) / min(images.shape[-2:])
            local = replace(local, reference_size=local.reference_size * share)
        negatives, masks = local(first)
        if self.blended > 0:
            others, other_masks = BlendedPatch()(first)
            chosen = torch.rand(len(first), 1, 1, 1, device=first.device) < self.blended
            negatives, masks = torch.where(chosen, others, negatives), torch.where(chosen, other_masks, masks)
        return TrainingViews(torch.cat([first, second, negatives]), masks)

    def losses(self, augmented: TrainingViews) -> dict[str, torch.Tensor]:
        """Compare views of normal images with each other and with their augmented counterparts."""
        embeddings = self.model(augmented.images)
        terms = self.loss(embeddings, augmented)
        spreading = spread(embeddings.global_.projected)
        self._monitor.update(spreading)
        parts = {f"{name}_loss": part for name, part in terms.parts.items()}
        return {"loss": terms.total, **parts, "projection_spread": spreading}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD, its rate in proportion to the images per update, decayed to zero along a cosine."""
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=self.lr * images_per_update(self.trainer) / 256,
            momentum=MOMENTUM,
            weight_decay=WEIGHT_DECAY,
        )
        return self.scheduled(optimizer)

    def on_validation_epoch_start(self) -> None:
        """Log how far normal images are from the means, stage by stage."""
        super().on_validation_epoch_start()
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        for name, deviation in self.model.deviations.items():
            errors = zip(self.model.encoder.score_names, deviation.mean_errors, strict=True)
            self.log_dict({f"normal_{name}_{stage}": error for stage, error in errors})

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show what training compares, and how far each stage is from normal."""
        return inspection.inspect(self.model, self.augment(images), images)

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX, also on the way to OpenVINO.

        Raises:
            ValueError: If score or map need masks of dropout and these are random, which graphs cannot be.
        """
        drops = self.model.mc_samples > 0 and any(DISTANCE in name for name in self.model.scorer.chosen)
        if drops and self.mc_masks == "random":
            msg = "mc_masks='random' cannot be exported; load the checkpoint with mc_masks='fixed'."
            raise ValueError(msg)
        return super().to_onnx(*args, **kwargs)
