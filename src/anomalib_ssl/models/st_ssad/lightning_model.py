# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD as an anomalib model.

Yoo, Zhao and Akoglu, "Self-Tuning Self-Supervised Image Anomaly Detection", KDD 2025; first version: "End-to-End
Augmentation Hyperparameter Tuning for Self-Supervised Anomaly Detection", https://arxiv.org/abs/2306.12033.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from anomalib.data import Batch
from anomalib.models import AnomalibModule
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer

from anomalib_ssl.checks import check_flag, check_number, check_whole
from anomalib_ssl.inspection import Inspection
from anomalib_ssl.models.st_ssad import inspection
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.bilevel import tell_apart
from anomalib_ssl.models.st_ssad.image_pool import read_pools
from anomalib_ssl.models.st_ssad.schedule import TuningSchedule
from anomalib_ssl.models.st_ssad.torch_model import STSSADModel
from anomalib_ssl.models.st_ssad.trajectory import SaveTrajectory
from anomalib_ssl.models.st_ssad.tuning_run import WEIGHT_DECAY, TuningRun
from anomalib_ssl.models.st_ssad.unlabeled import UnlabeledImages, check_source, find_unlabeled
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.mixin import SelfSupervisedMixin

STATE = "anomalib_ssl_st_ssad"
"""Key of a checkpoint with the state of the tuning."""

MOMENTUM = 0.9
"""Momentum of the detector's steps but for those in the tuning, that of DSV's public code."""


class STSSAD(SelfSupervisedMixin, AnomalibModule):
    """ST-SSAD: tune an augmentation by unlabelled images, then train a detector with it.

    A detector learns to tell augmented from normal images. The augmentation's parameters, such as area, aspect and
    angle of a patch, are tuned by gradient descent so that normal and augmented images together look to the detector
    like a set of unlabelled ones, normal and anomalous. Then a detector is trained anew with the parameters found, and
    a Gaussian is fitted to its embeddings of the clean training images: an image's score is its distance.

    **It is tuned with unlabelled images**, with anomalous ones among them, by default the validation images; labels and
    masks are never read. If these are test images, as by anomalib's default, the model is transductive: it is tested on
    images that it has seen, and its results do not compare with those of other models. Then it says so in the log, in
    its checkpoints and as ``transductive`` among the test results.

    From the paper's abstract and its public reviews: the two levels and their alternation, truly second order; CutDiff
    and rotation; binary cross-entropy; the validation loss and its normalisation; several starts, chosen among by the
    variance of scores. The text of the paper and its tables were not available: all numbers here are either those of
    DSV, by the same first author (network, size of images, SGD, ranges of area and aspect, density), or this package's.

    Args:
        unlabeled_source: ``val`` or ``test`` for the images of that split of the datamodule, or a folder of unlabelled
            images. By default the validation images; if there are none, or they are known to be normal or synthetic,
            nothing is tuned, and the log says so.
        augmentation: What is tuned: ``cutdiff``, ``cutout`` or ``cutpaste`` with a soft patch, or ``rotation``.
        backbone: Name of a timm network with a spatial feature map.
        pre_trained: Whether the backbone starts from timm's pretrained weights.
        area: Smallest and largest area of a patch as a share of the image's. Too small a patch is one that changes
            nothing, which the validation loss favours where few unlabelled images are anomalous.
        aspect: Smallest and largest width / height of a patch.
        angle: Smallest and largest angle in degrees, by default all of them.
        parameters: Values of the augmentation's parameters to begin with, angles in degrees, in place of several
            starts. With ``tuning_share=0`` they are trained with as they are, and no unlabelled images are needed.
        num_starts: Number of starts; a budget too small for several has one.
        tuning_share: Share of the budget before the last training.
        selection: What the best start is chosen by: ``spread`` for the variance of scores of unlabelled images relative
            to normal ones, ``loss`` for the validation loss, which also decides with fewer than 4 training images.
        val_loss: Validation loss: ``mean_distance``, or ``sinkhorn`` for optimal transport.
        second_order: Whether the validation loss is also differentiated through the detector's step.
        tuning_lr: Learning rate of Adam on the unconstrained parameters.
        inner_lr: Learning rate of the detector's steps in the tuning, which have no momentum.
        outer_batch_size: Number of normal and of unlabelled images per step of the parameters, beside half as many
            augmented ones; all of them if there are fewer.
        lr: Learning rate of the detector otherwise; in the last training decayed to zero along a cosine.
        gde_shrinkage: Covariance estimator of the density, ``ridge`` or ``ledoit_wolf``.
        score: How images are scored: ``density`` of embeddings; a map's ``_max``, ``_top`` or ``_mean``, as in
            ``places_max``; or ``auto`` for what tells defects planted in held-out images best. The defaults are those
            of ``CutPaste``.
        heat_map: How defects are located: ``places``, ``normed_places``, ``gradcam`` or ``auto``.
        **training: Arguments that all models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Attributes:
        transductive: Whether test images took part in the tuning.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import STSSAD
        >>> model = STSSAD(unlabeled_source="test", seed=0)  # transductive: tuned with unlabelled test images
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {"gde_shrinkage", "heat_map", "score"}

    def __init__(
        self,
        unlabeled_source: str | Path | None = None,
        augmentation: Literal["cutdiff", "cutout", "cutpaste", "rotation"] = "cutdiff",
        backbone: str = "resnet18",
        pre_trained: bool = False,
        area: tuple[float, float] = (0.02, 0.15),
        aspect: tuple[float, float] = (0.3, 3.3),
        angle: tuple[float, float] | None = None,
        parameters: dict[str, float] | None = None,
        num_starts: int = 4,
        tuning_share: float = 0.5,
        selection: Literal["spread", "loss"] = "spread",
        val_loss: Literal["mean_distance", "sinkhorn"] = "mean_distance",
        second_order: bool = True,
        tuning_lr: float = 0.05,
        inner_lr: float = 0.03,
        outer_batch_size: int = 128,
        lr: float = 0.03,
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ledoit_wolf",
        score: str = "normed_places_top",
        heat_map: str = "normed_places",
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_flag("pre_trained", pre_trained)
        check_flag("second_order", second_order)
        for name, value in (("tuning_lr", tuning_lr), ("inner_lr", inner_lr), ("lr", lr)):
            check_number(name, value, 1e-12)
        check_whole("outer_batch_size", outer_batch_size, 2)
        # Two optimisers take turns, and the tuning needs gradients of gradients.
        self.automatic_optimization = False
        self.unlabeled_source = check_source(unlabeled_source)
        self.tuning_lr = tuning_lr
        self.lr = lr
        self.transductive = False
        self._unlabeled: UnlabeledImages | None = None
        self.augmentation = TunableAugmentation(augmentation, area, aspect, angle)
        given = None if parameters is None else self.augmentation.set(parameters)
        with self.drawing_weights():
            self.model: STSSADModel = STSSADModel(
                backbone, pre_trained, gde_shrinkage, score, heat_map, image_size=self.size
            )
        detector = self.model.detector
        plan = TuningSchedule(self.max_updates, num_starts if given is None else 1, tuning_share)
        self.tuning = TuningRun(
            detector, self.augmentation, plan, selection, val_loss, second_order, inner_lr, outer_batch_size, given
        )

    @property
    def tuned_parameters(self) -> dict[str, float]:
        """The augmentation's parameters as they stand: a patch by its longer side, angles in degrees."""
        return self.augmentation.described()

    @property
    def progress_notes(self) -> Mapping[str, str]:
        """The phase, for the progress bar."""
        return self.tuning.notes(max(self.trainer.global_step - 1, 0))

    def configure_callbacks(self) -> Sequence[Callback]:
        """Save the course of the tuning, besides what all models do."""
        return [*super().configure_callbacks(), SaveTrajectory()]

    def setup(self, stage: str) -> None:
        """Find the unlabelled images; refuse what cannot be tuned with, and several devices, before training starts."""
        super().setup(stage)
        if stage != "fit":
            return
        if self.trainer.world_size > 1:
            msg = f"STSSAD trains on one device, got {self.trainer.world_size}: set --trainer.devices 1."
            raise ValueError(msg)
        # A checkpoint that is gone on with is loaded after this.
        self.tuning.reset()
        self.transductive = False
        self._unlabeled = find_unlabeled(self.unlabeled_source, self.trainer) if self.tuning.plan.tunes else None

    def on_train_start(self) -> None:
        """Split the updates that will really be run into phases, and read the images to tune with."""
        super().on_train_start()
        if self.tuning.start(total_updates(self.trainer), self._unlabeled is not None) and self._unlabeled is not None:
            self.transductive |= self._unlabeled.transductive
            self.tuning.pools = read_pools(self._unlabeled, self.trainer, self.pre_processor, self.device)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> None:
        """Make one update of the phase that the run is in."""
        del args, kwargs
        update = self.trainer.global_step
        optimizers = cast(list[LightningOptimizer], self.optimizers())
        phase, begins = self.tuning.begin(update)
        if begins:
            for optimizer in optimizers:
                optimizer.optimizer.state.clear()
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        if phase.tunes:
            measured = self._tune(images, optimizers[1])
        else:
            measured = self._train(images, optimizers[0], self.lr * phase.rate(update))
        parameters = self.tuning.end(update, measured)
        self.log("accuracy", measured.pop("accuracy"), batch_size=len(images))
        self.log_dict({**parameters, **measured}, prog_bar=True, batch_size=len(images))

    def _tune(self, images: torch.Tensor, optimizer: LightningOptimizer) -> dict[str, torch.Tensor]:
        """One step of the detector, and of the parameters through it."""
        # Small differences of gradients of gradients do not survive half precision.
        with torch.autocast(images.device.type, enabled=False):
            loss, step = self.tuning.tuning_step(images)
            optimizer.zero_grad()
            self.manual_backward(loss, inputs=[self.augmentation.raw])
        optimizer.step()
        step.write_to(self.model.detector)
        return {"train_loss": step.loss, "validation_loss": loss.detach(), "accuracy": step.accuracy}

    def _train(self, images: torch.Tensor, optimizer: LightningOptimizer, rate: float) -> dict[str, torch.Tensor]:
        """One step of the detector with the augmentation as it is."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            pair = torch.cat(self.tuning.pair(images))
        loss, accuracy = tell_apart(self.model(pair).float())
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return {"train_loss": loss.detach(), "accuracy": accuracy}

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """SGD for the detector, Adam for the augmentation's parameters; in each update one of them steps."""
        return [
            torch.optim.SGD(self.model.parameters(), lr=self.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
            torch.optim.Adam(self.augmentation.parameters(), lr=self.tuning_lr),
        ]

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show the augmentation as its tuning began and as it is now, and the scores of what it makes of images."""
        return inspection.inspect(self.model, self.tuning, self.transductive, images)

    def on_test_epoch_end(self) -> None:
        """Say among the results whether test images took part in the training."""
        super().on_test_epoch_end()
        self.log("transductive", float(self.transductive))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the tuning."""
        super().on_save_checkpoint(checkpoint)
        checkpoint[STATE] = {"transductive": self.transductive, **self.tuning.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the tuning of a checkpoint, which another model's has none of."""
        super().on_load_checkpoint(checkpoint)
        if STATE not in checkpoint:
            msg = f"This checkpoint is none of STSSAD: it lacks {STATE!r}, the state of the augmentation's tuning."
            raise ValueError(msg)
        self.transductive = checkpoint[STATE]["transductive"]
        self.tuning.load_state_dict(checkpoint[STATE])
