# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the task of NSA makes of images, and what the network makes of that."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.inspection import Column, Inspection, captions, scored_map
from anomalib_ssl.models.nsa.task import Task
from anomalib_ssl.models.nsa.torch_model import NSAModel

NOTE = (
    "label, found: mean of the soft label and of the network's answer over the patches; elsewhere: mean of the answer "
    "outside of them, where the label is 0"
)


def inspect(model: NSAModel, task: Task, images: torch.Tensor) -> Inspection:
    """Blend defects into images as in training, and compare their labels with the network's answer.

    Args:
        model: A fitted model in evaluation mode.
        task: What makes defects and labels.
        images: Shape (B, 3, H, W), values in [0, 1].

    Returns:
        The images and their maps; the images with defects, labels, and the network's answer, neither smoothed nor
        standardised; scores of both, and means of labels and answers.
    """
    blended, masks, labels = task.blend(images)
    found = model.network(model.exposure(blended)).sigmoid()
    before, after = model(images), model(blended)
    columns = [
        Column("input", images),
        scored_map(images, before),
        Column("blended", blended, captions("score", after.pred_score), outlined=masks),
        Column("label", labels, over=blended),
        Column("found", found, over=blended),
    ]

    def mean_over(values: torch.Tensor, region: torch.Tensor) -> list[float]:
        inside = region.to(values.dtype)
        sums = (values * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp(min=1)
        return [float(value) for value in sums]

    rows = {
        "score": before.pred_score.tolist(),
        "score, blended": after.pred_score.tolist(),
        "patches": masks.float().mean(dim=(1, 2, 3)).tolist(),
        "label": mean_over(labels, masks),
        "found": mean_over(found, masks),
        "elsewhere": mean_over(found, ~masks),
        "cross-entropy": F.binary_cross_entropy(found, labels, reduction="none").mean(dim=(1, 2, 3)).tolist(),
    }
    numbers = [
        {"image": str(number), **{name: values[number - 1] for name, values in rows.items()}}
        for number in range(1, len(images) + 1)
    ]
    return Inspection(columns, numbers, NOTE)
