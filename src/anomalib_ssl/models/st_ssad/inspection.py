# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the augmentation was like at the start of its tuning and is like now, and what the detector makes of it."""

from collections.abc import Mapping

import torch

from anomalib_ssl.inspection import Column, Inspection, captions, scored_map
from anomalib_ssl.models.st_ssad.torch_model import STSSADModel
from anomalib_ssl.models.st_ssad.tuning_run import TuningRun


def inspect(model: STSSADModel, tuning: TuningRun, transductive: bool, images: torch.Tensor) -> Inspection:
    """Augment images, always at the same places, as each start of the tuning began and as the parameters are now.

    Args:
        model: A fitted model in evaluation mode.
        tuning: The tuning that it comes from.
        transductive: Whether test images took part in it.
        images: Shape (B, 3, H, W), values in [0, 1].

    Returns:
        Images and augmented ones with their scores; the parameters over the course of the tuning.
    """
    augmentation, names = tuning.augmentation, tuple(tuning.augmentation.bounds)
    drawn = augmentation.kind.sample(images.shape, images.device)

    def augmented(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
        values = {**parameters, "angle": parameters["angle"].deg2rad()}
        values = {name: value.to(images).expand(len(images)) for name, value in values.items()}
        return augmentation.kind.apply(images, drawn | values)[0]

    columns, numbers = [Column("input", images), scored_map(images, model(images))], []
    table = tuning.trajectory.table()
    for candidate in table[:, 1].unique_consecutive().tolist():
        rows = table[table[:, 1] == candidate][[0, -1]]
        first, last = (dict(zip(tuning.trajectory.columns, row, strict=True)) for row in rows)
        part = "tuning" if candidate < 0 else f"start {candidate + 1:.0f}"
        course = {name: f"{first[name]:.4g} to {last[name]:.4g}" for name in ("update", *names)}
        numbers.append({"part": part, **course})
        if candidate >= 0:
            shown = augmented({name: first[name] for name in names})
            columns.append(Column(part, shown, captions("score", model(shown).pred_score)))
    now = augmentation.shown()
    shown = augmented(now)
    numbers.append({"part": "now", "update": "", **{name: f"{value:.4g}" for name, value in now.items()}})
    note = "angles in degrees" + ("; transductive: tuned with images of the test set" if transductive else "")
    return Inspection([*columns, Column("now", shown), scored_map(shown, model(shown), "map, now")], numbers, note)
