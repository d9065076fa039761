# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The worst misses: large defects of high contrast that a model did not find, beside its maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from anomalib.models import AnomalibModule

from anomalib_ssl.qualification.planting import Defect, Planted, plant
from anomalib_ssl.qualification.scores import score
from anomalib_ssl.qualification.sound import Sound
from anomalib_ssl.qualification.trial import Trial
from anomalib_ssl.report.gallery import heat, outlined, rarity

SIDE = 256
"""Longest side of a picture in pixels."""

SHOWN = 8
"""Missed defects that are shown."""

COMPARED = 12
"""Sound images whose maps say which values are rare."""


@dataclass(frozen=True)
class Miss:
    """A defect that was missed. Pictures are those of OpenCV (H, W, 3): blue, green, red.

    Args:
        defect: What it is.
        image: The image with it.
        mask: The same with the defect outlined.
        maps: Heat maps by model, of those that give any.
        scores: Raw scores by model.
        found: The models that found it.
    """

    defect: Defect
    image: npt.NDArray[Any]
    mask: npt.NDArray[Any]
    maps: Mapping[str, npt.NDArray[Any]]
    scores: Mapping[str, float]
    found: Sequence[str]


def worst(trial: Trial) -> list[Defect]:
    """Choose missed defects: of each family the largest and strongest one, then the next ones."""
    missed = ~np.all([subject.hits for subject in trial.subjects.values()], axis=0)
    ranked = sorted(
        (trial.defects[index] for index in np.flatnonzero(missed).tolist()),
        key=lambda defect: -defect.size * defect.contrast,
    )
    turns: dict[Defect, int] = {}
    seen: dict[str, int] = {}
    for defect in ranked:
        seen[defect.family] = turns[defect] = seen.get(defect.family, 0) + 1
    return sorted(ranked, key=lambda defect: turns[defect])[:SHOWN]


def picture(
    trial: Trial, models: Mapping[str, AnomalibModule], sound: Sound, defects: Sequence[Defect], seed: int
) -> list[Miss]:
    """Plant defects again, and draw them with what the models make of them."""
    planted = [done for done in plant(sound.images, defects, seed) if done is not None]
    if not planted:
        return []
    pictures = [done.image for done in planted]
    scores: dict[str, list[float]] = {}
    maps: dict[str, list[npt.NDArray[Any]]] = {}
    for name, model in models.items():
        scored = score(model, pictures)
        scores[name] = scored.scores.tolist()
        if scored.maps is not None:
            ordinary = score(model, sound.images[:COMPARED]).maps or []
            ordered = np.sort(np.concatenate([heat_.numpy().ravel() for heat_ in (*ordinary, *scored.maps)]))
            maps[name] = [rarity(heat_.numpy(), ordered).astype(np.float32) for heat_ in scored.maps]
    return [
        Miss(
            done.defect,
            image,
            outlined(image, done.mask.numpy()),
            {name: heat(image, values[index]) for name, values in maps.items()},
            {name: values[index] for name, values in scores.items()},
            [name for name, values in scores.items() if values[index] > trial.subjects[name].threshold.value],
        )
        for index, done in enumerate(planted)
        for image in [_small(done)]
    ]


def _small(planted: Planted) -> npt.NDArray[Any]:
    pixels = planted.image.permute(1, 2, 0).to(torch.uint8).numpy()[..., ::-1]
    scale = min(SIDE / max(pixels.shape[:2]), 1.0)
    size = [max(round(side * scale), 1) for side in pixels.shape[1::-1]]
    return np.ascontiguousarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA))
