# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Judging a tuned augmentation without labels."""

import math
from typing import NamedTuple

import torch

from anomalib_ssl.models.st_ssad.validation_loss import dsv_criterion, validation_loss
from anomalib_ssl.scoring import fit_gaussian

CRITERIA = ("spread", "loss")
"""Names of what the best start is chosen by."""

LEAST_IMAGES = 4
"""With fewer normal images there are no two halves with scores that vary."""


def score_spread(train: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """How much wider the anomaly scores of unlabelled images spread than those of normal ones.

    ST-SSAD chooses among starts by the variance of the anomaly scores, a review says, without more; that it is taken
    relative to that of normal images, which makes it independent of the scores' scale, is this package's choice. Scores
    are Mahalanobis distances; each half of the normal embeddings is scored by the density of the other half, so that
    normal images have scores as images have that were not trained on.

    Args:
        train: Embeddings of normal images, (N, D) with N of at least 4. On the host: float64 is needed.
        unlabeled: Embeddings of unlabelled images, (K, D), likewise.

    Returns:
        The ratio of the variances, a scalar. Near 1 the detector sees nothing in the unlabelled images that normal ones
        do not have.

    Raises:
        ValueError: If there are fewer than 4 normal images.

    Example:
        >>> import torch
        >>> normal = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        >>> other = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
        >>> mixed = torch.cat([other[:100], other[100:] + 5])
        >>> 0.8 < float(score_spread(normal, other)) < 1.25 < float(score_spread(normal, mixed))
        True
    """
    if len(train) < LEAST_IMAGES:
        msg = f"train must hold at least {LEAST_IMAGES} embeddings, got {len(train)}."
        raise ValueError(msg)
    halves = (train[::2].double(), train[1::2].double())
    ratios = []
    # Scores by the two densities are apart in scale, which is not what the spread is about.
    for fitted, held_out in (halves, halves[::-1]):
        mean, whitening = fit_gaussian(fitted, "ledoit_wolf")
        normal, mixed = (((one.double() - mean) @ whitening.T).norm(dim=1) for one in (held_out, unlabeled))
        ratios.append(mixed.var(unbiased=False) / normal.var(unbiased=False).clamp(min=1e-24))
    return torch.stack(ratios).mean()


class Judgement(NamedTuple):
    """What is known of a tuned augmentation without labels, on all images.

    Attributes:
        spread: See :func:`score_spread`; larger is better. NaN with fewer than 4 normal images.
        loss: The validation loss; smaller is better.
        dsv: The criterion of DSV; smaller is better. For comparison only.
    """

    spread: float
    loss: float
    dsv: float

    def beats(self, other: "Judgement", criterion: str) -> bool:
        """Whether this one is the better by ``spread``, or by ``loss`` if that is wanted or all there is."""
        by_loss = criterion == "loss" or math.isnan(self.spread)
        return self.loss < other.loss if by_loss else self.spread > other.spread


@torch.no_grad()
def judge(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor, loss: str) -> Judgement:
    """Judge a detector and its augmentation by embeddings.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of augmented images, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).
        loss: Name of the validation loss.

    Returns:
        The criteria.

    Raises:
        ValueError: If an embedding is not finite.
    """
    # On the host: the spread needs float64, which not every device has, and what is returned has to go there anyway.
    train, augmented, unlabeled = (one.float().cpu() for one in (train, augmented, unlabeled))
    if not all(one.isfinite().all() for one in (train, augmented, unlabeled)):
        msg = "The detector's embeddings are not finite: its training has diverged. Lower lr or inner_lr."
        raise ValueError(msg)
    # Asked from within a training step, which may run under the host's autocast.
    with torch.autocast("cpu", enabled=False):
        return Judgement(
            spread=float(score_spread(train, unlabeled)) if len(train) >= LEAST_IMAGES else math.nan,
            loss=float(validation_loss(train, augmented, unlabeled, loss)),
            dsv=float(dsv_criterion(train, augmented, unlabeled)),
        )
