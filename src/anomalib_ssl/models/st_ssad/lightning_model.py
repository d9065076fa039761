# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD as an anomalib model: CutPaste with pastes that are tuned without labels.

Yoo, Zhao and Akoglu, "Self-Tuning Self-Supervised Image Anomaly Detection", KDD 2025; first version: "End-to-End
Augmentation Hyperparameter Tuning for Self-Supervised Anomaly Detection", https://arxiv.org/abs/2306.12033.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from anomalib.models import AnomalibModule

from anomalib_ssl.augmentations import Augmentation
from anomalib_ssl.inspection import Inspection
from anomalib_ssl.models.cutpaste import CutPaste, CutPasteEnsemble
from anomalib_ssl.models.cutpaste.views import VARIANTS
from anomalib_ssl.models.st_ssad.settings import settings
from anomalib_ssl.models.st_ssad.tuning import choose
from anomalib_ssl.models.st_ssad.unlabeled import UnlabeledBatches, UnlabeledImages, check_source, find_unlabeled
from anomalib_ssl.plain_data import from_mapping, packed, to_mapping, unpacked
from anomalib_ssl.training.images.clean import CleanTrainingImages

logger = logging.getLogger(__name__)


class STSSAD(CutPaste, AnomalibModule):
    """ST-SSAD: choose the size and the strength of CutPaste's pastes by unlabelled images, then train CutPaste.

    Before the first update the network embeds training images, the same images with pastes of several settings, and
    unlabelled images, normal and anomalous ones mixed. For each kind of paste the setting is taken with which normal
    and augmented images together lie most like the unlabelled ones, among those that can be told from normal images. It
    stays as given where normal images alone would choose the same; so it did wherever it was measured.
    Then all is :class:`~anomalib_ssl.models.cutpaste.CutPaste`: views, network, scores.

    Labels and masks are never read. Where the unlabelled images are test images the model is transductive: it is tested
    on images that it has seen. That has to be asked for, by ``unlabeled_source``; then it says so in the log, in its
    checkpoints and as ``transductive`` among the test results.

    **This departs from the paper**, which tunes a soft patch by gradients, in the embedding of a detector that is
    trained along, and through its steps (second order). What was measured of both is in docs/results/st_ssad.md. From
    the paper, after its abstract and public reviews, since its text was not available: the agreement of normal and
    augmented with unlabelled images in an embedding, its normalisation and its distance.

    Args:
        unlabeled_source: A folder of unlabelled images, or ``val`` or ``test`` for those of that split of the
            datamodule. By default the validation images, where these are no test images. If there are none, or they are
            known to be normal or synthetic, nothing is tuned, and the log says so.
        **training: Arguments of :class:`~anomalib_ssl.models.cutpaste.CutPaste`. ``patch`` and ``scar`` are what is
            tuned, and the largest that is tried.

    Attributes:
        transductive: Whether test images took part in the tuning.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import STSSAD
        >>> model = STSSAD(unlabeled_source="val", seed=0)
        >>> datamodule = MVTecAD(category="bottle", val_split_mode="from_test", seed=0)
        >>> Engine().train(model=model, datamodule=datamodule)  # doctest: +SKIP
    """

    def __init__(self, unlabeled_source: str | Path | None = None, **training: Any) -> None:
        super().__init__(**training)
        self.unlabeled_source = check_source(unlabeled_source)
        self.transductive = False
        self._given = self.views
        self._tuned = False
        self._course: dict[str, str] = {}
        self._unlabeled: UnlabeledImages | None = None

    @property
    def tuned_parameters(self) -> dict[str, dict[str, Any]]:
        """The pastes as they stand, by view: each is the argument of that name of CutPaste."""
        return {name: to_mapping(paste) for name, paste in self._pastes().items()}

    def setup(self, stage: str) -> None:
        """Find the unlabelled images; refuse what cannot be tuned with before training starts."""
        if stage == "fit":
            # A checkpoint that is gone on with is loaded after this.
            self.views, self._tuned, self.transductive, self._course = self._given, False, False, {}
        super().setup(stage)
        if stage == "fit":
            self._unlabeled = find_unlabeled(self.unlabeled_source, self.trainer, self._held_out.paths)

    def on_train_start(self) -> None:
        """Tune the pastes, unless a run goes on in which that was done."""
        super().on_train_start()
        unlabeled, self._unlabeled = self._unlabeled, None
        if unlabeled is not None and not self._tuned:
            self._tune(unlabeled)
        self._tuned = True

    def _tune(self, unlabeled: UnlabeledImages) -> None:
        words = "The pastes are tuned with %s, without labels."
        if unlabeled.transductive:
            words += " This run is TRANSDUCTIVE: do not compare it with models that have not seen the test images."
        logger.log(logging.WARNING if unlabeled.transductive else logging.INFO, words, unlabeled.description)
        network = self.model.members[0] if isinstance(self.model, CutPasteEnsemble) else self.model
        with self.scoring_mode():
            choice = choose(
                network.pooled_features,  # type: ignore[arg-type]
                {name: settings(paste) for name, paste in self._pastes().items()},
                CleanTrainingImages(self.trainer, self.pre_processor, self.device),
                UnlabeledBatches(unlabeled.paths, self.trainer, self.pre_processor, self.device),
                self.seed or 0,
                self.equal_exposure,
            )
        # Processes on different machines may round differently; the first one decides.
        pastes: dict[str, Any] = self.trainer.strategy.broadcast(choice.pastes)
        self.transductive = unlabeled.transductive
        self._course = {
            name: f"mean distance {distance:.3g}, {choice.given[name]:.3g} as given, {choice.visible[name]} visible"
            for name, distance in choice.distance.items()
        }
        logger.info("How the settings compare: %s.", self._course)
        if pastes == self._pastes():
            logger.warning("The unlabelled images speak for no other pastes: the given ones stay, as of CutPaste.")
        self.views = replace(self.views, **pastes)
        for name, paste in pastes.items():
            logger.info("Chosen for the view '%s': %s", name, paste)
            if not choice.visible[name]:
                logger.warning("No setting of '%s' can be told from normal images; it stays as given.", name)

    def _pastes(self) -> dict[str, Augmentation]:
        """What the views are made with, by name."""
        kinds = VARIANTS[self.views.variant][1:]
        return {name: getattr(self.views, name) for name in ("patch", "scar", "blended") if name in " ".join(kinds)}

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show views as CutPaste does; say which pastes were chosen, why, and whether test images took part."""
        found = super().inspect(images)
        notes = [found.note, *(f"{name}: {self._pastes()[name]} ({why})" for name, why in self._course.items())]
        if self.transductive:
            notes.append("transductive: tuned with test images")
        return replace(found, note="; ".join(notes))

    def on_test_epoch_end(self) -> None:
        """Say among the results whether test images took part in the tuning."""
        super().on_test_epoch_end()
        self.log("transductive", float(self.transductive))

    def get_extra_state(self) -> torch.Tensor:
        """What was tuned; it goes where the weights go, also between processes."""
        known = {"tuned": self._tuned, "transductive": self.transductive, "course": self._course}
        return packed(known | {"pastes": self.tuned_parameters})

    def set_extra_state(self, state: torch.Tensor) -> None:
        """Go on with the pastes that weights were trained with."""
        known = unpacked(state)
        self._tuned, self.transductive, self._course = known["tuned"], known["transductive"], known["course"]
        pastes = {name: from_mapping(getattr(self.views, name), known["pastes"][name], name) for name in self._pastes()}
        self.views = replace(self.views, **pastes)
