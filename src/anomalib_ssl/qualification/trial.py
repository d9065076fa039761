# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The trial: models score sound images and planted defects, and what they find is counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from anomalib.models import AnomalibModule

from anomalib_ssl.qualification.false_alarms import Rate, Threshold, rate, threshold
from anomalib_ssl.qualification.localisation import Located, locate
from anomalib_ssl.qualification.planting import Defect, plant
from anomalib_ssl.qualification.scores import own_threshold, score
from anomalib_ssl.qualification.sound import Sound

CHUNK = 8
"""Defects that are planted and scored at once."""

LOCATED = 60
"""Hits of each family whose maps are looked at, the first ones."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """What one model did.

    Args:
        sound_scores: Raw scores of the sound images (n,).
        threshold: The threshold for the rate of false alarms that was named; hits are counted at it.
        own_threshold: The model's own threshold, as its checkpoint has it; None if it has none.
        own_rate: Its false alarms at that.
        scores: Raw scores of the planted defects (N,).
        located: How well its hits were located, by family; empty of a model without maps.
    """

    sound_scores: Array
    threshold: Threshold
    own_threshold: float | None
    own_rate: Rate | None
    scores: Array
    located: Mapping[str, Located]

    @property
    def hits(self) -> Array:
        """Which defects were found (N,)."""
        return self.scores > self.threshold.value


@dataclass(frozen=True)
class Trial:
    """A trial of models by the same defects.

    Args:
        subjects: What each model did, by its name.
        defects: What was planted (N,).
        sources: Index of the sound image of each defect (N,).
        contrasts: Contrast of each defect, as measured (N,).
        left_out: How many defects of each family, size and contrast could not be planted.
    """

    subjects: Mapping[str, Subject]
    defects: Sequence[Defect]
    sources: Array
    contrasts: Array
    left_out: Mapping[tuple[str, float, float], int]

    def where(self, **wanted: object) -> Array:
        """Select defects (N,) by attributes, such as ``family``; None takes any."""
        return np.array(
            [
                all(value is None or getattr(defect, name) == value for name, value in wanted.items())
                for defect in self.defects
            ],
            dtype=bool,
        )


def run(
    models: Mapping[str, AnomalibModule],
    sound: Sound,
    defects: Sequence[Defect],
    false_alarms: float,
    seed: int = 0,
    track: Callable[[Iterable[Any], str, int], Iterable[Any]] = lambda items, _text, _total: items,
) -> Trial:
    """Score sound images, set thresholds, plant defects and count what is found.

    Args:
        models: Trained models by name.
        sound: Sound images.
        defects: What to plant; those of a family stand together.
        false_alarms: Rate of false alarms that thresholds are set for, in (0, 1).
        seed: Seed of what is planted.
        track: Shows progress: takes steps, what they are, and how many.

    Raises:
        ValueError: If a model gives no scores, or some that are not finite, or no defect could be planted.
    """
    images = sound.images
    scored: dict[str, list[float]] = {name: [] for name in models}
    starts = range(0, len(images), CHUNK)
    for start in track(starts, "sound images", len(starts)):
        some = images[start : start + CHUNK]
        for name, model in models.items():
            scored[name] += score(model, some).scores.tolist()
    thresholds = {name: threshold(np.array(values), false_alarms) for name, values in scored.items()}

    found: dict[str, list[float]] = {name: [] for name in models}
    kept: list[tuple[Defect, int, float]] = []
    left_out: Counter[tuple[str, float, float]] = Counter()
    hits: dict[str, dict[str, list[tuple[torch.Tensor, torch.Tensor]]]] = {name: {} for name in models}
    located: dict[str, dict[str, Located]] = {name: {} for name in models}
    starts = range(0, len(defects), CHUNK)
    for start in track(starts, "planted defects", len(starts)):
        wanted = defects[start : start + CHUNK]
        tried = list(zip(wanted, plant(images, wanted, seed), strict=True))
        left_out.update((defect.family, defect.size, defect.contrast) for defect, done in tried if done is None)
        planted = [done for _, done in tried if done is not None]
        kept += [(done.defect, done.source, done.contrast) for done in planted]
        for name, model in models.items():
            scores, maps = score(model, [done.image for done in planted]) if planted else (np.array([]), None)
            found[name] += scores.tolist()
            for done, value, heat in zip(planted, scores, maps or (), strict=False):
                mine = hits[name].setdefault(done.defect.family, [])
                if value > thresholds[name].value and len(mine) < LOCATED:
                    mine.append((heat, done.mask))
        for name in models:
            for family in [family for family in hits[name] if family != wanted[-1].family or start == starts[-1]]:
                pairs = hits[name].pop(family)
                if pairs:
                    located[name][family] = locate(*zip(*pairs, strict=True))
    if not kept:
        msg = f"families: none of the {len(defects)} defects could be planted, for no place gives them their contrast."
        raise ValueError(msg)
    subjects = {}
    for name, model in models.items():
        sound_scores, own = np.array(scored[name]), own_threshold(model)
        own_rate = None if own is None else rate(int((sound_scores > own).sum()), len(sound_scores))
        subjects[name] = Subject(sound_scores, thresholds[name], own, own_rate, np.array(found[name]), located[name])
    return Trial(
        subjects,
        [defect for defect, _, _ in kept],
        np.array([source for _, source, _ in kept], dtype=int),
        np.array([contrast for _, _, contrast in kept]),
        dict(left_out),
    )
