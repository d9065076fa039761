# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""NSA as an anomalib model.

Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization", ECCV
2022, https://arxiv.org/abs/2109.15222.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import torch
from anomalib.models import AnomalibModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import BlendedPatch, Symmetries
from anomalib_ssl.checks import check_flag, check_number
from anomalib_ssl.inspection import Inspection
from anomalib_ssl.models.nsa import inspection
from anomalib_ssl.models.nsa.task import Task, task_of
from anomalib_ssl.models.nsa.torch_model import DEFAULTS, NSAModel
from anomalib_ssl.models.nsa.traits import Traits, image_traits
from anomalib_ssl.plain_data import from_mapping, packed, unpacked
from anomalib_ssl.scoring import NotFittedError
from anomalib_ssl.training.images.clean import CleanTrainingImages
from anomalib_ssl.training.mixin import SelfSupervisedMixin

logger = logging.getLogger(__name__)

FINAL_LR = 1e-6
"""Learning rate at the end of the run, that of the authors' code."""


class NSA(SelfSupervisedMixin, AnomalibModule):
    """NSA: find natural-looking defects, patches of other training images that are resized and blended in.

    A network that reads an image and gives a map learns to tell where patches were blended in. Its target is soft: how
    much a pixel was changed. Its answer is the published map, and the mean of that the published score; by default
    features of its encoder and random filters have a part in them.

    From the authors' code: the network, the patches, the labels, cross-entropy, Adam with a cosine from 1e-3 to 1e-6 in
    batches of 64, ``change_mean`` and ``change``, and for textures and unaligned objects what else is done to images.
    There the settings of each category are made by hand, ``configs/model/nsa.yaml`` lists them. By default they are
    derived from the training images here, before the first update and without a random number; see
    :func:`~anomalib_ssl.models.nsa.traits.image_traits`. That is this package's choice, and the log says what came of
    it. Not derived are the number of patches and how much of them the object covers, which are those of most
    categories. The authors' crops are shifts here, and images have one size throughout; they train on crops of 224
    pixels.

    Images must have sides that are multiples of 32. The size of batches is the datamodule's.

    Args:
        backbone: Name of a timm network, trained from scratch, whose last feature map is a 32nd of the image in both
            directions.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
            The authors' epochs are 320 to 3,920 updates by category, 1,280 for most.
        lr: Learning rate of Adam at the start.
        texture: Whether images show a texture. Derived unless given.
        aligned: Whether objects lie alike in all images. Derived unless given.
        label: Steepness and midpoint of the soft label, in grey levels of 0 to 255. Derived unless given.
        patch: Arguments of :class:`~anomalib_ssl.augmentations.BlendedPatch` in place of those that follow from the
            product, ``background`` and ``threshold`` of the object mask among them.
        symmetries: Arguments of :class:`~anomalib_ssl.augmentations.Symmetries`, likewise: what leaves a normal image
            normal.
        score: How images are scored: ``change_mean`` as published; ``density`` of the encoder's pooled features; a
            map's ``_max``, ``_top`` or ``_mean``, as in ``pixels_change_max``; several joined by ``+``; or ``auto`` for
            what tells defects planted in held-out images best.
        heat_map: How defects are located: ``change`` as published; ``pixels_change``, the same standardised pixel by
            pixel by the training images; ``places``, how unlikely features of three stages of the encoder are at their
            place; ``normed_places``, the same without an image's own contrast; ``filters`` and
            ``fine_filters``, likewise of :class:`~anomalib_ssl.scoring.RandomFilters`; ``places_and_filters``, of both
            together; several joined by ``+``; or ``auto``.
        **training: Arguments that all models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Attributes:
        traits: What the training images say of the product, ``aligned`` as given; none before training.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import NSA
        >>> model = NSA(seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle", train_batch_size=64))  # doctest: +SKIP
    """

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {"heat_map", "score"}

    def __init__(
        self,
        backbone: str = "resnet18",
        max_updates: int = 2_000,
        lr: float = 1e-3,
        texture: bool | None = None,
        aligned: bool | None = None,
        label: tuple[float, float] | None = None,
        patch: dict[str, Any] | None = None,
        symmetries: dict[str, Any] | None = None,
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(max_updates=max_updates, **training)
        check_number("lr", lr, FINAL_LR)
        self.lr = lr
        self.given = {name: value for name, value in (("texture", texture), ("aligned", aligned)) if value is not None}
        for name, value in self.given.items():
            check_flag(name, value)
        self.label = check_label(label)
        # What is wrong with them shall be said before training.
        from_mapping(BlendedPatch, patch or {}, "patch")
        from_mapping(Symmetries, symmetries or {}, "symmetries")
        self.patch, self.symmetries = patch, symmetries
        self.traits: Traits | None = None
        with self.drawing_weights():
            self.model: NSAModel = NSAModel(backbone, score, heat_map, self.size)

    @property
    def task(self) -> Task:
        """What the network learns.

        Raises:
            NotFittedError: If training has not begun.
        """
        if self.traits is None:
            msg = "NSA knows what to train for by its training images: train the model, or load a checkpoint of it."
            raise NotFittedError(msg)
        return task_of(replace(self.traits, **self.given), self.patch, self.symmetries, self.label)

    def try_augmentations(self, images: torch.Tensor) -> None:
        """Turn images of the run's size; what else is done to them is known once training begins."""
        from_mapping(Symmetries, self.symmetries or {}, "symmetries")(images)

    def on_train_start(self) -> None:
        """Learn from the clean training images what the product is like."""
        super().on_train_start()
        # Nothing about that is random: where a run is gone on with, it comes to the same.
        images = CleanTrainingImages(self.trainer, self.pre_processor, self.device)
        self.traits = image_traits(images, self.given.get("aligned"))
        logger.info("The training images look like %s, so that NSA learns %s.", self.traits, self.task)

    def augment(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Blend defects into images; with their masks, and labels of how much each pixel is changed."""
        return self.task(images)

    def losses(self, augmented: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Find the defects that are blended in."""
        blended, _, labels = augmented
        return {"loss": F.binary_cross_entropy_with_logits(self.model(blended).float(), labels)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam; the rate falls along a cosine over the updates that will really be run."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr)
        return self.scheduled(optimizer, final=FINAL_LR / self.lr)

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show defects as they are blended in in training, their labels, and what the network finds of them."""
        return inspection.inspect(self.model, self.task, images)

    def get_extra_state(self) -> torch.Tensor:
        """What is known of the product; it goes where the weights go, also between processes."""
        return packed(None if self.traits is None else asdict(self.traits))

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Know the product that weights were trained for."""
        traits = unpacked(state)
        self.traits = None if traits is None else Traits(**traits)


def check_label(label: Sequence[float] | None) -> tuple[float, float] | None:
    """Raise unless ``label`` is none, or a pair of steepness and midpoint.

    Returns:
        The pair.

    Raises:
        TypeError: If it is no sequence, or one of its values is no number.
        ValueError: If it is no pair, or one is outside its limits.
    """
    if label is None:
        return None
    if not isinstance(label, Sequence) or isinstance(label, str):
        msg = f"label must be a pair (steepness, midpoint), got {label!r}."
        raise TypeError(msg)
    if len(label) != 2:
        msg = f"label must be a pair (steepness, midpoint), got {label!r}."
        raise ValueError(msg)
    check_number("label's steepness", label[0], 1e-3, 100)
    check_number("label's midpoint", label[1], 0, 255)
    return float(label[0]), float(label[1])
