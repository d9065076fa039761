# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""All that a trial found, as plain data: what the JSON file holds and the page shows."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from anomalib_ssl import __version__
from anomalib_ssl.qualification.false_alarms import rate
from anomalib_ssl.qualification.pairs import compare
from anomalib_ssl.qualification.pod import Pod, fit_pod
from anomalib_ssl.qualification.sound import Sound
from anomalib_ssl.qualification.trial import Subject, Trial

ALL = "all families"
"""Name of all families together."""

Curves = Mapping[tuple[str, str, str, float], Pod]
"""Curves by model, family, what they are over (``size`` or ``contrast``), and the other one's grade."""


def fit_curves(trial: Trial) -> Curves:
    """Fit the probability of detection over size at each contrast, and over contrast at each size."""
    return {
        (name, family, over, grade): fit_pod(_values(trial, over)[chosen], subject.hits[chosen])
        for name, subject in trial.subjects.items()
        for family in [ALL, *dict.fromkeys(defect.family for defect in trial.defects)]
        for over, graded in (("size", "contrast"), ("contrast", "size"))
        for grade in sorted({getattr(defect, graded) for defect in trial.defects})
        for chosen in [trial.where(**{"family": None if family == ALL else family, graded: grade})]
    }


def make_record(trial: Trial, sound: Sound, curves: Curves, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Gather everything.

    Args:
        trial: What was found.
        sound: The sound images.
        curves: What was fitted.
        settings: Arguments of the trial.

    Returns:
        Plain data for ``json.dump``, without numbers that are not finite.
    """
    names = [str(path) for path in sound.images.paths]
    return {
        "anomalib_ssl": __version__,
        "settings": dict(settings),
        "sound": {
            "origin": sound.origin,
            "warning": sound.warning,
            "images": names,
            "shorter_side": sound.images.shorter_side,
        },
        "models": {name: _model(subject) for name, subject in trial.subjects.items()},
        "curves": [
            {"model": model, "family": family, "over": over, "at": grade, **_pod(pod)}
            for (model, family, over, grade), pod in curves.items()
        ],
        "pairs": list(_pairs(trial)),
        "left_out": [
            {"family": family, "size": size, "contrast": contrast, "count": count}
            for (family, size, contrast), count in trial.left_out.items()
        ],
        "defects": [
            {
                **asdict(defect),
                "image": names[source],
                "measured_contrast": float(contrast),
                "scores": {name: float(subject.scores[index]) for name, subject in trial.subjects.items()},
                "hits": {name: bool(subject.hits[index]) for name, subject in trial.subjects.items()},
            }
            for index, (defect, source, contrast) in enumerate(
                zip(trial.defects, trial.sources.tolist(), trial.contrasts.tolist(), strict=True)
            )
        ],
    }


def _values(trial: Trial, over: str) -> Any:
    """What a curve is over: the nominal grades, which measured contrasts keep within a tenth."""
    return np.array([getattr(defect, over) for defect in trial.defects], dtype=float)


def _model(subject: Subject) -> dict[str, Any]:
    hits = subject.hits
    return {
        "threshold": asdict(subject.threshold),
        "own_threshold": subject.own_threshold,
        "own_false_alarms": None if subject.own_rate is None else asdict(subject.own_rate),
        "hits": asdict(rate(int(hits.sum()), len(hits))),
        "sound_scores": subject.sound_scores.tolist(),
        "located": {
            family: {"count": found.count, "auroc": found.auroc, "aupro": found.aupro}
            for family, found in subject.located.items()
            if math.isfinite(found.auroc + found.aupro)
        },
    }


def _pod(pod: Pod) -> dict[str, Any]:
    fitted = not pod.note
    return {
        "defects": int(sum(pod.counts)),
        "hits": round(sum(share * count for share, count in zip(pod.rates, pod.counts, strict=True))),
        "points": [
            {"value": value, "share": share, "count": count}
            for value, share, count in zip(pod.values, pod.rates, pod.counts, strict=True)
        ],
        "note": pod.note,
        "intercept": pod.intercept if fitted else None,
        "slope": pod.slope if fitted else None,
        "a50": None if pod.half is None else asdict(pod.half),
        "a90": None if pod.ninety is None else asdict(pod.ninety),
        "a90_95": pod.bound,
    }


def _pairs(trial: Trial) -> Iterator[dict[str, Any]]:
    """Compare two models, by families; nothing of one."""
    subjects: Sequence[Subject] = list(trial.subjects.values())
    if len(subjects) != 2:
        return
    first, second = (subject.hits for subject in subjects)
    for family in [ALL, *dict.fromkeys(defect.family for defect in trial.defects)]:
        chosen = trial.where(family=None if family == ALL else family)
        if chosen.any():
            yield {"family": family, **compare(first[chosen], second[chosen], trial.sources[chosen])._asdict()}
