# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What torch models that restore images have in common: errors of restorations, and features of the encoder."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch

from anomalib_ssl.models.components.feature_scoring import FEATURES
from anomalib_ssl.models.components.scored_model import ScoredModel
from anomalib_ssl.scoring import ERRORS, Evidence, RestorationErrors, error_scorer, join

SCORED_STAGES = 3
"""So many of the encoder's last stages are looked at, as in models that learn features."""


class RestoringModel(ScoredModel):
    """Base of torch models that restore images, and are scored by where that fails and by what their encoders see.

    A subclass builds its network, then calls :meth:`score_by`. Evidence is the errors of
    :class:`~anomalib_ssl.scoring.RestorationErrors` and the encoder's last three stages, joined as ``features``.

    Attributes:
        errors: Compares images with their restorations.
    """

    errors: RestorationErrors

    @abstractmethod
    def restore(self, images: torch.Tensor) -> torch.Tensor:
        """Restore whole images (B, 3, H, W) with values in [0, 1]; the same shape."""

    @abstractmethod
    def encode(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """Compute the encoder's stages for images (B, 3, H, W) in [0, 1], from fine to coarse: (B, C, h, w) each."""

    def score_by(self, size: tuple[int, int], score: str, heat_map: str, defaults: tuple[str, str], *own: str) -> None:
        """Make the scorer.

        Args:
            size: Height and width in pixels of the images.
            score: Candidate for scores, or ``auto``; see :func:`~anomalib_ssl.scoring.error_scorer`.
            heat_map: Candidate for maps, or ``auto``.
            defaults: Score and map where ``auto`` has nothing to choose by.
            *own: Names of further evidence of one channel that the subclass gives.

        Raises:
            ValueError: If ``score`` or ``heat_map`` is unknown.
        """
        self.errors = RestorationErrors(size)
        training = self.training
        self.eval()
        with torch.no_grad():
            _, channels, height, width = self._features(torch.zeros(1, 3, *size)).shape
        self.train(training)
        kinds = {**dict.fromkeys(own, 1), **ERRORS}
        self.scorer = error_scorer(kinds, size, score, heat_map, defaults, (FEATURES, (channels, height, width)))

    def evidence(self, images: torch.Tensor, names: frozenset[str], restored: torch.Tensor | None = None) -> Evidence:
        """Restore images (B, 3, H, W) in [0, 1] and compare them, unless ``restored`` is given, and look at them."""
        evidence: dict[str, torch.Tensor] = {}
        if names & ERRORS.keys():
            evidence |= self.errors(images, self.restore(images) if restored is None else restored, names)
        if FEATURES in names:
            evidence[FEATURES] = self._features(images)
        return evidence

    def fit(self, images: Iterable[torch.Tensor], held_out: Iterable[torch.Tensor] = ()) -> None:
        """Fit the contrast scale, then all else; see :meth:`ScoredModel.fit`."""
        self.scorer.forget()
        self.errors.fit((batch, self.restore(batch)) for batch in images)
        super().fit(images, held_out)

    def _features(self, images: torch.Tensor) -> torch.Tensor:
        return join(self.encode(images)[-SCORED_STAGES:])
