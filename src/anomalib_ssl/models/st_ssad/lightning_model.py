# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD as an anomalib model.

Yoo, Zhao and Akoglu, "Self-Tuning Self-Supervised Image Anomaly Detection", KDD 2025; first version: "End-to-End
Augmentation Hyperparameter Tuning for Self-Supervised Anomaly Detection", https://arxiv.org/abs/2306.12033.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl import augmentations
from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.bilevel import inner_step, outer_loss
from anomalib_ssl.models.st_ssad.schedule import Phase, TuningSchedule
from anomalib_ssl.models.st_ssad.selection import Judgement, judge
from anomalib_ssl.models.st_ssad.torch_model import STSSADModel
from anomalib_ssl.models.st_ssad.trajectory import SaveTrajectory, Trajectory
from anomalib_ssl.models.st_ssad.tuner import Tuner
from anomalib_ssl.models.st_ssad.unlabeled import ImagePool, UnlabeledImages, find_unlabeled, read_unlabeled
from anomalib_ssl.models.st_ssad.validation_loss import LOSSES
from anomalib_ssl.scoring.gaussian import SHRINKAGES
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.clean_images import CleanTrainingImages
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from anomalib_ssl.training.schedule import cosine_factor

logger = logging.getLogger(__name__)

STATE = "anomalib_ssl_st_ssad"
"""Key of a checkpoint with the state of the tuning."""

COLLAPSED = 0.6
"""Accuracy of telling augmented images below which the augmentation has become too weak to see; 0.5 is chance."""


class STSSAD(SelfSupervisedMixin, AnomalibModule):
    """ST-SSAD: tune an augmentation by unlabelled images, then train a detector with it.

    A detector learns to tell augmented from normal images. The augmentation's parameters, such as area, aspect and
    angle of a patch, are tuned by gradient descent so that normal and augmented images together look to the detector
    like a set of unlabelled ones, normal and anomalous. Then a detector is trained anew with the parameters found, and
    a Gaussian is fitted to its embeddings of the clean training images: an image's score is its distance.

    **It needs unlabelled images**, with anomalous ones among them, which ``unlabeled_source`` must name: labels and
    masks are never read. Where these are the test images, the model is transductive: it has seen the images, though not
    the labels, that it is tested on, and its results do not compare with those of other models. Then it says so in the
    log, in its checkpoints and as ``transductive`` among the test results.

    One run does it all, each update one step of an optimiser. An update of a warm start and of the last training is an
    SGD step of the detector. An update of the tuning is a plain gradient step of the detector and, seen through it,
    a step of Adam on the augmentation's parameters; it takes several times as long.

    From the paper's abstract and its public reviews: the two levels and their alternation, truly second order; CutDiff
    and rotation; binary cross-entropy; the validation loss and its normalisation; several starts, chosen among by the
    variance of scores. The text of the paper and its tables were not available: all numbers here are either those of
    DSV, by the same first author (network, size of images, SGD, ranges of area and aspect, density), or this package's.

    Args:
        unlabeled_source: ``val`` or ``test`` for the images of that split of the datamodule, or a folder of unlabelled
            images. anomalib's validation split usually is the test split. Needed for tuning only.
        augmentation: What is tuned: ``cutdiff``, ``cutout`` or ``cutpaste`` with a soft patch, or ``rotation``.
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes.
        max_updates: Training budget in updates, all phases together. Training ends at the first of this and the
            Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images. By default an epoch is one pass.
        compiled: Whether the detector runs through ``torch.compile`` in warm starts and in the last training.
        area: Smallest and largest area of a patch as a share of the image's. Too small a patch is one that changes
            nothing, which the validation loss favours where few unlabelled images are anomalous.
        aspect: Smallest and largest width / height of a patch.
        angle: Smallest and largest angle in degrees, by default all of them.
        parameters: Values of the augmentation's parameters to begin with, angles in degrees, in place of several
            starts. With ``tuning_share=0`` they are trained with as they are, and no unlabelled images are needed.
        num_starts: Number of starts; a budget too small for several has one.
        tuning_share: Share of the budget before the last training.
        search_share: Share of that in which the starts are followed, in equal parts, to choose one.
        warmup_share: Share of a start's updates in which the detector alone is trained.
        selection: What the best start is chosen by: ``spread`` for the variance of scores of unlabelled images relative
            to normal ones, ``loss`` for the validation loss.
        val_loss: Validation loss: ``mean_distance``, or ``sinkhorn`` for optimal transport.
        second_order: Whether the validation loss is also differentiated through the detector's step.
        tuning_lr: Learning rate of Adam on the unconstrained parameters.
        inner_lr: Learning rate of the detector's steps in the tuning, which have no momentum.
        outer_batch_size: Number of normal and of unlabelled images per step of the parameters; all of them if there are
            fewer.
        augmented_ratio: Number of augmented images per such step, relative to that.
        lr: Learning rate of the detector otherwise; in the last training decayed to zero along a cosine.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty on all weights.
        base_jitter: Colour jitter of the images that the detector is trained on, normal and augmented, in [0, 0.5].
        head_dims: Widths of the detector's head.
        score: ``density``, or ``logit`` for the detector's log-odds of an augmented image.
        gde_shrinkage: Covariance estimator, ``ridge`` or ``ledoit_wolf``.
        map_sigma: Gaussian smoothing of the heat map in pixels; 0 for none.
        export_map: Whether ONNX and OpenVINO exports contain the heat map.
        seed: If given, seeds Python, NumPy and torch before the weights are drawn.
        pre_processor: anomalib pre-processor without ``Normalize``, or a flag for the default.
        post_processor: anomalib post-processor, or a flag for the default.
        evaluator: anomalib evaluator, or a flag for the default.
        visualizer: anomalib visualizer, or a flag for the default.

    Attributes:
        transductive: Whether the model was tuned with images of the test split.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import STSSAD
        >>> model = STSSAD(unlabeled_source="test", seed=0)  # transductive: tuned with unlabelled test images
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    # Scores of either half of the training images are compared with the other half.
    min_training_images = 4

    def __init__(
        self,
        unlabeled_source: str | Path | None = None,
        augmentation: Literal["cutdiff", "cutout", "cutpaste", "rotation"] = "cutdiff",
        backbone: str = "resnet18",
        pretrained: bool = False,
        image_size: int | tuple[int, int] = 256,
        max_updates: int = 10_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        area: tuple[float, float] = (0.02, 0.15),
        aspect: tuple[float, float] = (0.3, 3.3),
        angle: tuple[float, float] | None = None,
        parameters: dict[str, float] | None = None,
        num_starts: int = 4,
        tuning_share: float = 0.5,
        search_share: float = 0.5,
        warmup_share: float = 0.4,
        selection: Literal["spread", "loss"] = "spread",
        val_loss: Literal["mean_distance", "sinkhorn"] = "mean_distance",
        second_order: bool = True,
        tuning_lr: float = 0.05,
        inner_lr: float = 0.03,
        outer_batch_size: int = 128,
        augmented_ratio: float = 0.5,
        lr: float = 0.03,
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
        base_jitter: float = 0.1,
        head_dims: Sequence[int] = (512, 128),
        score: Literal["density", "logit"] = "density",
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ledoit_wolf",
        map_sigma: float = 4.0,
        export_map: bool = False,
        seed: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_number("image_size", min(height, width), 1)
        super().__init__(
            pre_processor=self.configure_pre_processor((height, width)) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.prepare_training(max_updates, in_memory, memory_limits, updates_per_epoch, compiled, seed)
        check_choice("val_loss", val_loss, LOSSES)
        for name, value in (("tuning_lr", tuning_lr), ("inner_lr", inner_lr), ("lr", lr)):
            check_number(name, value, 1e-12)
        check_number("outer_batch_size", outer_batch_size, 2)
        check_number("augmented_ratio", augmented_ratio, 1e-3)
        check_number("momentum", momentum, 0, 1)
        check_number("weight_decay", weight_decay, 0)
        check_number("base_jitter", base_jitter, 0, 0.5)
        check_choice("gde_shrinkage", gde_shrinkage, SHRINKAGES)
        starts = num_starts if parameters is None else 1
        self.schedule = TuningSchedule(max_updates, starts, tuning_share, search_share, warmup_share)
        check_number("num_starts", num_starts, 1)
        # Two optimisers take turns, and the tuning needs gradients of gradients.
        self.automatic_optimization = False
        self.unlabeled_source = unlabeled_source
        self.val_loss = val_loss
        self.second_order = second_order
        self.tuning_lr = tuning_lr
        self.inner_lr = inner_lr
        self.outer_batch_size = outer_batch_size
        self.augmented_ratio = augmented_ratio
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.export_map = export_map
        self.jitter = augmentations.ColorJitter(*[base_jitter] * 4)
        self.augmentation = TunableAugmentation(
            augmentation, (area[0], area[1]), (aspect[0], aspect[1]), None if angle is None else (angle[0], angle[1])
        )
        self.model: STSSADModel = STSSADModel(backbone, pretrained, head_dims, score, gde_shrinkage, map_sigma)
        self.augmentation.set(parameters or {})
        given = None if parameters is None else self.augmentation.raw.detach().clone()
        self.tuner = Tuner(self.model.detector, self.augmentation, selection, given)
        self.trajectory = Trajectory(tuple(self.augmentation.bounds))
        self.transductive = False
        self._unlabeled: UnlabeledImages | None = None
        self._pools: tuple[ImagePool, ImagePool] | None = None
        self._resumed = False
        self._seed = 0

    @property
    def tuned_parameters(self) -> dict[str, float]:
        """The augmentation's parameters as they stand: a patch by its longer side, angles in degrees."""
        return self.augmentation.described()

    @property
    def progress_notes(self) -> Mapping[str, str]:
        """The phase, for the progress bar."""
        phase = self.schedule.at(max(self.trainer.global_step - 1, 0))
        followed = "" if phase.candidate is None else f" {phase.candidate + 1}/{self.schedule.followed}"
        return {"phase": phase.name.replace(" ", "-") + followed.replace(" ", "-")}

    def configure_callbacks(self) -> Sequence[Callback]:
        """Save the course of the tuning, besides what all models do."""
        return [*super().configure_callbacks(), SaveTrajectory()]

    def setup(self, stage: str) -> None:
        """Refuse what cannot be tuned on, before training starts.

        Raises:
            FileNotFoundError: If ``unlabeled_source`` names a folder that is not there.
            ValueError: If it is missing, or its images are known to be normal or synthetic; or for several devices.
        """
        super().setup(stage)
        if stage != "fit":
            return
        if self.trainer.world_size > 1:
            msg = f"STSSAD trains on one device, got {self.trainer.world_size}: set --trainer.devices 1."
            raise ValueError(msg)
        self._unlabeled, self.transductive = None, False
        if self.schedule.tuning_share == 0:
            logger.info("The augmentation is not tuned, since tuning_share is 0.")
            return
        self._unlabeled = find_unlabeled(self.unlabeled_source, self.trainer)
        self.transductive = self._unlabeled.transductive
        logger.info("The augmentation is tuned with %s, without labels.", self._unlabeled.description)
        if self.transductive:
            logger.warning(
                "This run is TRANSDUCTIVE: unlabelled test images take part in the training. Do not compare its "
                "results with those of models that have not seen the test images."
            )

    def on_fit_start(self) -> None:
        """Start afresh, unless a checkpoint was loaded."""
        if self._resumed:
            self._resumed = False
            return
        self._seed = torch.initial_seed()
        self.trajectory = Trajectory(tuple(self.augmentation.bounds))
        self.tuner.reset()

    def on_train_start(self) -> None:
        """Split the updates that will really be run into phases, and read the unlabelled images."""
        schedule = self.schedule
        self.schedule = TuningSchedule(
            total_updates(self.trainer),
            schedule.starts,
            schedule.tuning_share,
            schedule.search_share,
            schedule.warmup_share,
        )
        phases = ", ".join(f"{phase.name} from {phase.start}" for phase in self.schedule.phases)
        logger.info("Phases by update: %s.", phases)
        if self.schedule.followed < schedule.starts:
            logger.warning(
                "%d updates are too few to follow %d starts; there is one, in the middle of the parameters' ranges.",
                self.schedule.total,
                schedule.starts,
            )
        if self.tuner.tuned is None and self._unlabeled is not None:
            clean = CleanTrainingImages(self.trainer, self.pre_processor, self.device)
            unlabeled = read_unlabeled(self._unlabeled.paths, self.trainer, self.pre_processor, self.device)
            self._pools = (ImagePool(clean), unlabeled)

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> None:
        """Make one update of the phase that the run is in."""
        del args, kwargs
        update = self.trainer.global_step
        phase = self.schedule.at(update)
        detector_optimizer, parameter_optimizer = self._both_optimizers()
        if update == phase.start:
            self.tuner.begin(phase, self.schedule)
            detector_optimizer.optimizer.state.clear()
            parameter_optimizer.optimizer.state.clear()
            if phase.name == "training":
                self._end_tuning()
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        generator = self._generator(update)
        base, _ = self.jitter(images, generator)
        if phase.tunes:
            measured = self._tune(base, parameter_optimizer, generator)
        else:
            measured = self._train_detector(base, phase, detector_optimizer, generator)
        values = {name: value.detach() for name, value in self.augmentation.values().items()}
        values["angle"] = values["angle"].rad2deg()
        found = measured.pop("accuracy")
        self.log_dict({**values, **measured}, prog_bar=True, batch_size=len(images))
        self.log("accuracy", found, batch_size=len(images))
        if phase.name != "training":
            self.trajectory.add(update, phase.candidate, {**values, **measured, "accuracy": found})
        self.tuner.observe(phase, update)
        if phase.ends_candidate and update + 1 == phase.stop:
            assert self._pools is not None  # noqa: S101
            self.tuner.end_candidate(int(phase.candidate or 0), self.judge(*self._pools, generator))
        if update + 1 == self.schedule.total:
            self.tuner.finish()

    def _tune(
        self, base: torch.Tensor, optimizer: LightningOptimizer, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """One step of the detector, and of the parameters through it."""
        assert self._pools is not None  # noqa: S101  # read in on_train_start
        train, unlabeled = self._pools
        count = min(self.outer_batch_size, len(train), len(unlabeled))
        detector = self.model.detector
        # Small differences of gradients of gradients do not survive half precision.
        with torch.autocast(base.device.type, enabled=False), torch.enable_grad():
            normal, augmented = self.augmentation.normal(base, generator), self.augmentation(base, generator)
            detector.train()
            step = inner_step(detector, normal, augmented, self.inner_lr, self.second_order, self.weight_decay)
            detector.eval()
            sources = train.draw(max(round(count * self.augmented_ratio), 1), generator)
            loss, _ = outer_loss(
                detector,
                step,
                self.augmentation.normal(train.draw(count, generator), generator),
                self.augmentation(sources, generator),
                self.augmentation.normal(unlabeled.draw(count, generator), generator),
                self.val_loss,
            )
            optimizer.zero_grad()
            self.manual_backward(loss, inputs=[self.augmentation.raw])
        optimizer.step()
        step.write_to(detector)
        detector.train(self.model.training)
        found = _accuracy(step.logits)
        return {"train_loss": step.loss, "validation_loss": loss.detach(), "accuracy": found}

    def _train_detector(
        self, base: torch.Tensor, phase: Phase, optimizer: LightningOptimizer, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """One step of the detector with the augmentation as it is."""
        rate = self.lr
        if phase.name == "training":
            rate *= cosine_factor(self.trainer.global_step - phase.start, phase.stop - phase.start)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.no_grad(), torch.autocast(base.device.type, enabled=False):
            normal, augmented = self.augmentation.normal(base, generator), self.augmentation(base, generator)
        logits = self.train_forward(torch.cat([normal, augmented])).float()
        labels = torch.arange(2, device=base.device).repeat_interleave(len(base))
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return {"train_loss": loss.detach(), "accuracy": _accuracy(logits.detach())}

    @torch.no_grad()
    def judge(self, train: ImagePool, unlabeled: ImagePool, generator: torch.Generator | None = None) -> Judgement:
        """Judge detector and augmentation as they stand, without labels.

        Args:
            train: Normal images.
            unlabeled: Unlabelled images.
            generator: Source of randomness for the augmentation, on the images' device.

        Returns:
            Spread of the scores, validation loss and the criterion of DSV.
        """
        detector, size = self.model.detector, self.outer_batch_size
        training = detector.training
        detector.eval()
        with torch.autocast(self.device.type, enabled=False):
            normal, mixed = (
                torch.cat([detector(self.augmentation.normal(x, generator), embed=True) for x in pool.batches(size)])
                for pool in (train, unlabeled)
            )
            sources = train.draw(max(round(len(train) * self.augmented_ratio), 1), generator)
            augmented = torch.cat([detector(self.augmentation(x, generator), embed=True) for x in sources.split(size)])
        detector.train(training)
        return judge(normal, augmented, mixed, self.val_loss)

    def _end_tuning(self) -> None:
        """Say what was found, and release what only the tuning needs."""
        self._pools = None
        described = ", ".join(f"{name} {value:.4g}" for name, value in self.tuned_parameters.items())
        logger.info("Tuned parameters: %s.", described)
        found = self.trajectory.recent("accuracy")
        if found < COLLAPSED:
            logger.warning(
                "Only %.0f %% of normal and augmented images were told apart at the end of the tuning, where 50 %% is "
                "chance: the augmentation has become too weak to learn from, as it does where few unlabelled images "
                "are anomalous. Raise the lower limit of area.",
                100 * found,
            )

    def _both_optimizers(self) -> tuple[LightningOptimizer, LightningOptimizer]:
        detector, parameters = cast(list[LightningOptimizer], self.optimizers())
        return detector, parameters

    def _generator(self, update: int) -> torch.Generator:
        """All randomness of an update, so that a resumed run draws what the interrupted one would have drawn."""
        (state,) = np.random.SeedSequence((self._seed, update)).generate_state(1, np.uint64)
        return torch.Generator(self.device).manual_seed(int(state) % 2**63)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """SGD for the detector, Adam for the augmentation's parameters; in each update one of them steps."""
        return [
            torch.optim.SGD(
                self.model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
            ),
            torch.optim.Adam(self.augmentation.parameters(), lr=self.tuning_lr),
        ]

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of normal embeddings.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through repeatedly.

        Raises:
            ValueError: If there are fewer than 2 images.
        """
        training = self.model.training
        self.model.eval()
        self.model.fit(images)
        self.model.train(training)

    def on_test_epoch_end(self) -> None:
        """Say among the results whether test images took part in the training."""
        super().on_test_epoch_end()
        self.log("transductive", float(self.transductive))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the state of the tuning."""
        super().on_save_checkpoint(checkpoint)
        source = checkpoint["hyper_parameters"].get("unlabeled_source")
        checkpoint["hyper_parameters"]["unlabeled_source"] = None if source is None else str(source)
        checkpoint[STATE] = {
            "transductive": self.transductive,
            "unlabeled": "" if self._unlabeled is None else self._unlabeled.description,
            "tuned_parameters": self.tuned_parameters,
            "trajectory": self.trajectory.table(),
            "tuner": self.tuner.state_dict(),
            "seed": self._seed,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the tuning of a checkpoint."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint[STATE]
        self.transductive = state["transductive"]
        self.trajectory.load(state["trajectory"])
        self.tuner.load_state_dict(state["tuner"])
        self._seed = state["seed"]
        self._resumed = getattr(self, "_trainer", None) is not None and self.trainer.training

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX, also on the way to OpenVINO: the score alone, unless ``export_map`` is set."""
        if self.export_map:
            return super().to_onnx(*args, **kwargs)
        with self.model.without_map():
            return super().to_onnx(*args, **kwargs)


def _accuracy(logits: torch.Tensor) -> torch.Tensor:
    """Share of right answers, for logits (2 N, 2) of as many normal as augmented images."""
    normal, augmented = logits.argmax(dim=1).chunk(2)
    return 0.5 * (1 - normal.float().mean() + augmented.float().mean())
