# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What torch models that restore images have in common: errors of restorations, and features of the encoder."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence

import torch

from anomalib_ssl.models.components.feature_scoring import FEATURES
from anomalib_ssl.models.components.probing import probing
from anomalib_ssl.models.components.scored_model import ScoredModel
from anomalib_ssl.scoring import (
    ERRORS,
    Errors,
    Evidence,
    MapPart,
    Pixels,
    Places,
    RandomFilters,
    RestorationErrors,
    Scorer,
    join,
)
from anomalib_ssl.scoring.maps import SMOOTHING

PLACES = 32
"""No stage is looked at at twice as many places in a row: a ResNet at 256 pixels has so many."""

DEFAULTS = ("pixels_all_max+filters_max+filters_max", "all+filters+fine_filters")
"""Score and map: of what the network says and of random filters (docs/results/random_filters.md has figures)."""

ERROR_SMOOTHING = 1 / 32
"""Errors want more smoothing than features, which look at more than a pixel (docs/results/ssm.md has figures)."""


class RestoringModel(ScoredModel):
    """Base of torch models that restore images, and are scored by where that fails and by what their encoders see.

    A subclass builds its network, then calls :meth:`score_by`. Evidence is the errors of
    :class:`~anomalib_ssl.scoring.RestorationErrors`, and stages of the encoder, joined as ``features``.

    Attributes:
        errors: Compares images with their restorations.
    """

    errors: RestorationErrors

    @abstractmethod
    def restore(self, images: torch.Tensor) -> torch.Tensor:
        """Restore whole images (B, 3, H, W) with values in [0, 1]; the same shape."""

    @abstractmethod
    def encode(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """Compute features of images (B, 3, H, W) in [0, 1] at a half, a quarter and an eighth of their resolution.

        A network that is less deep gives fewer: (B, C, h, w) each, from fine to coarse.
        """

    def score_by(self, size: tuple[int, int], score: str, heat_map: str, *own: str) -> None:
        """Make the scorer, whose candidates are errors of each kind as they are, and standardised pixel by pixel.

        The latter have ``pixels_`` before their names. Features add ``places``, how unlikely they are at their place,
        and ``normed_places``, the same without an image's own contrast; random filters add ``filters`` and
        ``fine_filters``.

        Args:
            size: Height and width in pixels of the images.
            score: Candidate for scores, or ``auto``; see :class:`~anomalib_ssl.scoring.Scorer`.
            heat_map: Candidate for maps, or ``auto``.
            *own: Names of further evidence of one channel that the subclass gives, smoothed as it is.

        Raises:
            ValueError: If ``score`` or ``heat_map`` is unknown.
        """
        self.errors = RestorationErrors(size)
        with probing(self):
            _, channels, height, width = _joined(self.encode(torch.zeros(1, 3, *size))).shape
        kinds, shape = {**dict.fromkeys(own, 1), **ERRORS}, (channels, height, width)
        maps: dict[str, MapPart] = {kind: Errors(kind, count) for kind, count in kinds.items()}
        maps |= {f"pixels_{kind}": Pixels(kind, size, self.errors.box_size, count) for kind, count in kinds.items()}
        maps |= {"places": Places(FEATURES, shape), "normed_places": Places(FEATURES, shape, contrast=False)}
        for part in maps.values():
            share = SMOOTHING if part.source == FEATURES else ERROR_SMOOTHING if part.source in ERRORS else 0.0
            part.sigma = share * min(size)
        self.scorer = Scorer(maps, size, score, heat_map, DEFAULTS, filters=RandomFilters(size))

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compare images (B, 3, H, W) in [0, 1] with what is restored of them, and encode them, if that is wanted."""
        restored = self.restore(images) if names & ERRORS.keys() else None
        return self.compare(images, names, restored, self.encode(images) if FEATURES in names else None)

    def compare(
        self,
        images: torch.Tensor,
        names: frozenset[str],
        restored: torch.Tensor | None,
        stages: Sequence[torch.Tensor] | None,
    ) -> Evidence:
        """Give evidence of images that were restored and encoded.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            names: What is wanted; more may be given.
            restored: What :meth:`restore` gave; without it there is no evidence of errors.
            stages: What :meth:`encode` gave; without it there are no features.
        """
        evidence: dict[str, torch.Tensor] = {}
        if restored is not None:
            evidence |= self.errors(images, restored, names)
        if stages is not None:
            evidence[FEATURES] = _joined(stages)
        return evidence

    def fit_evidence(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the contrast scale."""
        self.errors.fit((batch, self.restore(batch)) for batch in images)


def _joined(stages: Sequence[torch.Tensor]) -> torch.Tensor:
    return join(stages, PLACES)
