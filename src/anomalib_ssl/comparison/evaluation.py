# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The metrics of a benchmark, from anomalib."""

from typing import Any

from anomalib.metrics import AUPR, AUPRO, AUROC, AnomalibMetric, Evaluator, F1Score


def evaluator(own: Any) -> Evaluator:
    """Make an evaluator that tests with image AUROC, average precision and F1, pixel AUROC, AUPRO and F1.

    Args:
        own: The model's evaluator or None, whose metrics of validation are kept: callbacks may wait for them.
    """
    image, mask = ["pred_score", "gt_label"], ["anomaly_map", "gt_mask"]
    metrics: list[AnomalibMetric] = [
        AUROC(fields=image, prefix="image_"),
        AUPR(fields=image, prefix="image_"),
        F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
        # Without masks or maps there is no figure for pixels, and no error.
        AUROC(fields=mask, prefix="pixel_", strict=False),
        AUPRO(fields=mask, prefix="pixel_", strict=False),
        F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
    ]
    return Evaluator(val_metrics=list(own.val_metrics) if own is not None else None, test_metrics=metrics)
