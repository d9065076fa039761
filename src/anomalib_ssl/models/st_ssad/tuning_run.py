# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A run from the first start to the last training: what each update does with detector and augmentation."""

import logging
from dataclasses import replace
from typing import Any

import torch

from anomalib_ssl.augmentations import ColorJitter
from anomalib_ssl.checks import check_choice
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.bilevel import InnerStep, inner_step, outer_loss
from anomalib_ssl.models.st_ssad.image_pool import ImagePool, Pools
from anomalib_ssl.models.st_ssad.network import Detector
from anomalib_ssl.models.st_ssad.schedule import Phase, TuningSchedule
from anomalib_ssl.models.st_ssad.selection import Judgement, judge
from anomalib_ssl.models.st_ssad.trajectory import Trajectory
from anomalib_ssl.models.st_ssad.tuner import Tuner
from anomalib_ssl.models.st_ssad.validation_loss import LOSSES

logger = logging.getLogger(__name__)

WEIGHT_DECAY = 3e-5
"""L2 penalty on all weights of the detector, that of DSV's public code."""

AUGMENTED_RATIO = 0.5
"""Augmented images per normal one in a step of the parameters; this package's choice."""

JITTER = ColorJitter(0.1, 0.1, 0.1, 0.1)
"""Colour jitter of the images that the detector is trained on, normal and augmented, that of DSV's public code."""

COLLAPSED = 0.6
"""Accuracy of telling augmented images below which the augmentation has become too weak to see; 0.5 is chance."""


class TuningRun:
    """The updates of a run, phase by phase: the caller asks for their losses, and makes the steps.

    Each update is one step of an optimiser. An update of a warm start and of the last training is an SGD step of the
    detector. An update of the tuning is a plain gradient step of the detector and, seen through it, a step of Adam on
    the augmentation's parameters; it takes several times as long. All randomness is that of torch's global generator.

    Args:
        detector: The network.
        augmentation: The augmentation.
        plan: Phases of a run of full length.
        selection: What the best start is chosen by, ``spread`` or ``loss``.
        val_loss: Name of the validation loss.
        second_order: Whether that is also differentiated through the detector's step.
        inner_lr: Learning rate of the detector's steps in the tuning.
        outer_batch_size: Number of normal and of unlabelled images per step of the parameters.
        given: Unconstrained numbers to begin with, in place of starts spread over the bounds. Defaults to none.

    Attributes:
        schedule: Phases of the run at hand, from :meth:`start` on.
        pools: Normal and unlabelled images, to be set where something is to be tuned.
        tuner: What is remembered from phase to phase.
        trajectory: Parameters and losses of all updates before the last training.

    Raises:
        ValueError: If ``selection`` or ``val_loss`` is unknown.
    """

    def __init__(
        self,
        detector: Detector,
        augmentation: TunableAugmentation,
        plan: TuningSchedule,
        selection: str = "spread",
        val_loss: str = "mean_distance",
        second_order: bool = True,
        inner_lr: float = 0.03,
        outer_batch_size: int = 128,
        given: torch.Tensor | None = None,
    ) -> None:
        check_choice("val_loss", val_loss, LOSSES)
        self.detector = detector
        self.augmentation = augmentation
        self.plan = self.schedule = plan
        self.val_loss = val_loss
        self.second_order = second_order
        self.inner_lr = inner_lr
        self.outer_batch_size = outer_batch_size
        self.tuner = Tuner(detector, augmentation, selection, given)
        self.trajectory = Trajectory(tuple(augmentation.bounds))
        self.pools: Pools | None = None

    def reset(self) -> None:
        """Begin a new run, with the detector's present weights as the first ones."""
        self.tuner.reset()
        self.trajectory = Trajectory(tuple(self.augmentation.bounds))

    def start(self, total: int, tunes: bool) -> bool:
        """Split the updates that will really be run into phases.

        Args:
            total: Their number.
            tunes: Whether there are images to tune with; if not, all is training.

        Returns:
            Whether there is something left to tune, for which ``pools`` must be set.
        """
        share = self.plan.tuning_share if tunes else 0.0
        self.schedule = schedule = replace(self.plan, total=total, tuning_share=share)
        logger.info("Phases by update: %s.", ", ".join(f"{phase.name} from {phase.start}" for phase in schedule.phases))
        if schedule.tunes and schedule.followed < schedule.starts:
            logger.warning(
                "%d updates are too few to follow %d starts; there is one, in the middle of the parameters' ranges.",
                total,
                schedule.starts,
            )
        return schedule.tunes and self.tuner.tuned is None

    def notes(self, update: int) -> dict[str, str]:
        """The phase of an update, for the progress bar."""
        phase = self.schedule.at(update)
        followed = "" if phase.candidate is None else f"-{phase.candidate + 1}/{self.schedule.followed}"
        return {"phase": phase.name.replace(" ", "-") + followed}

    def begin(self, update: int) -> tuple[Phase, bool]:
        """Put detector and augmentation into the state that an update begins with.

        Returns:
            The update's phase, and whether this is its first.
        """
        phase = self.schedule.at(update)
        if update != phase.start:
            return phase, False
        self.tuner.begin(phase, self.schedule.followed)
        if phase.name == "training":
            self._end_tuning()
        return phase, True

    def pair(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Make what the detector shall tell apart of normal images.

        Args:
            images: Shape (B, C, H, W), values in [0, 1].

        Returns:
            The images with jittered colours, without and with the augmentation, (B, C, H, W) each.
        """
        images, _ = JITTER(images)
        return self.augmentation.normal(images), self.augmentation(images)

    def tuning_step(self, images: torch.Tensor) -> tuple[torch.Tensor, InnerStep]:
        """Work out a step of the detector, and the validation loss that is seen through it.

        Args:
            images: Normal images (B, C, H, W), values in [0, 1].

        Returns:
            The loss, to be differentiated by the parameters, and the step, to be made afterwards.
        """
        assert self.pools is not None  # noqa: S101  # set where something is to be tuned
        train, unlabeled = self.pools
        count = min(self.outer_batch_size, len(train), len(unlabeled))
        detector, augmentation = self.detector, self.augmentation
        training = detector.training
        step = inner_step(detector.train(), *self.pair(images), self.inner_lr, self.second_order, WEIGHT_DECAY)
        sources = _draw_share(train, count)
        loss = outer_loss(
            detector.eval(),
            step,
            augmentation.normal(train.draw(count)),
            augmentation(sources),
            augmentation.normal(unlabeled.draw(count)),
            self.val_loss,
        )
        detector.train(training)
        return loss, step

    def end(self, update: int, measured: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Take note of an update, and do what is due after it.

        Args:
            update: Its number.
            measured: What it was like: ``train_loss``, ``accuracy`` and, in the tuning, ``validation_loss``.

        Returns:
            The parameters that the update led to, as scalars by name.
        """
        phase = self.schedule.at(update)
        parameters = self.augmentation.shown()
        if phase.name != "training":
            self.trajectory.add(update, phase.candidate, {**parameters, **measured})
        self.tuner.observe(phase, update)
        if phase.name == "search" and update + 1 == phase.stop:
            assert self.pools is not None  # noqa: S101  # likewise
            self.tuner.end_candidate(int(phase.candidate or 0), self.judge(self.pools))
        if update + 1 == self.schedule.total:
            self.tuner.finish()
        return parameters

    @torch.no_grad()
    def judge(self, pools: Pools) -> Judgement:
        """Judge detector and augmentation as they stand, without labels.

        Args:
            pools: Normal and unlabelled images.

        Returns:
            Spread of the scores, validation loss and the criterion of DSV.

        Raises:
            ValueError: If the detector has diverged.
        """
        detector, augmentation, size = self.detector, self.augmentation, self.outer_batch_size
        training = detector.training
        detector.eval()
        with torch.autocast(pools.train.images.device.type, enabled=False):
            normal, mixed = (
                torch.cat([detector(augmentation.normal(images), embed=True) for images in pool.batches(size)])
                for pool in pools
            )
            sources = _draw_share(pools.train, len(pools.train))
            augmented = torch.cat([detector(augmentation(images), embed=True) for images in sources.split(size)])
        detector.train(training)
        return judge(normal, augmented, mixed, self.val_loss)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, as plain data and tensors."""
        return {"tuner": self.tuner.state_dict(), "trajectory": self.trajectory.table()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.tuner.load_state_dict(state["tuner"])
        self.trajectory.load(state["trajectory"])

    def _end_tuning(self) -> None:
        """Say what was found, and release what only the tuning needs."""
        self.pools = None
        logger.info("The augmentation is trained with: %s.", self.augmentation.in_words())
        found = self.trajectory.recent("accuracy")
        if found < COLLAPSED:
            logger.warning(
                "Only %.0f %% of normal and augmented images were told apart at the end of the tuning, where 50 %% is "
                "chance: the augmentation has become too weak to learn from, as it does where few unlabelled images "
                "are anomalous. Raise the lower limit of area.",
                100 * found,
            )


def _draw_share(pool: ImagePool, count: int) -> torch.Tensor:
    """Draw images to be augmented, for ``count`` normal ones."""
    return pool.draw(max(round(count * AUGMENTED_RATIO), 1))
