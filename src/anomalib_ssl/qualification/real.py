# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What models find of real defects, where the data has any: to see whether planted ones tell as much."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule
from scipy.stats import mannwhitneyu

from anomalib_ssl.qualification.false_alarms import rate, threshold
from anomalib_ssl.qualification.scores import score
from anomalib_ssl.qualification.sound import SoundImages


def defective_images(data: AnomalibDataModule) -> tuple[list[Path], list[Path]]:
    """List the sound and the defective test images of a datamodule.

    Raises:
        ValueError: If it has none of either kind.
    """
    samples = data.test_data.samples
    sound, defective = ([Path(path) for path in samples.image_path[samples.label_index == label]] for label in (0, 1))
    if not sound or not defective:
        msg = f"real: {data.name} has {len(sound)} sound and {len(defective)} defective test images; it takes both."
        raise ValueError(msg)
    return sound, defective


def find_real(
    models: Mapping[str, AnomalibModule], sound: Sequence[Path], defective: Sequence[Path], false_alarms: float
) -> dict[str, dict[str, Any]]:
    """Score real test images.

    Args:
        models: Trained models by name.
        sound: Sound test images.
        defective: Defective ones; their folders name the kind of defect.
        false_alarms: Rate of false alarms of the threshold, which is set on the sound test images.

    Returns:
        For each model ``auroc``, the area under the receiver operating characteristic; ``hits`` at the threshold; and
        ``kinds``, hits by the kind of defect.
    """
    found = {}
    kinds = np.array([path.parent.name for path in defective])
    for name, model in models.items():
        normal, abnormal = (score(model, SoundImages(paths)).scores for paths in (sound, defective))
        hits = abnormal > threshold(normal, false_alarms).value
        found[name] = {
            "auroc": float(mannwhitneyu(abnormal, normal).statistic) / (len(normal) * len(abnormal)),
            "hits": asdict(rate(int(hits.sum()), len(hits))),
            "kinds": {
                kind: asdict(rate(int(hits[kinds == kind].sum()), int((kinds == kind).sum())))
                for kind in sorted(set(kinds.tolist()))
            },
        }
    return found
