# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The metrics of a benchmark: anomalib's, those of ranks on raw scores and maps.

anomalib's post-processor normalises scores and maps and clamps them to [0, 1] before metrics see them. The ties at both
ends change AUROC, average precision and AUPRO, most for weak models and for scores with heavy tails.
"""

from collections.abc import Mapping
from typing import Any

import torch
from anomalib.metrics import AUPR, AUPRO, AUROC, AnomalibMetric, Evaluator, F1Score
from lightning.pytorch import Callback


class RawScores(Callback):
    """Keeps scores and maps of test batches as the model gives them. It belongs to the Trainer's own callbacks.

    These run before the model's, of which the post-processor is one.
    """

    def __init__(self) -> None:
        self._kinds: set[bool] = set()
        self._marked = False

    def meaningful(self, measured: Mapping[str, Any]) -> dict[str, Any]:
        """Leave out what says nothing where test images are all of one kind, or no mask marks any pixel.

        anomalib gives 0 or 1 there.
        """
        says = {"image_": len(self._kinds) > 1, "pixel_": self._marked}
        nothing = tuple(prefix for prefix, something in says.items() if not something)
        return {name: value for name, value in measured.items() if not name.startswith(nothing)}

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Copy scores and maps, and add their places in the order of all numbers.

        Raises:
            ValueError: If any is not finite.
        """
        del trainer, args, kwargs
        self._kinds |= set(outputs.gt_label.bool().tolist())
        self._marked |= outputs.gt_mask is not None and bool(outputs.gt_mask.any())
        found = [values for values in (outputs.pred_score, outputs.anomaly_map) if values is not None]
        if not all(bool(values.isfinite().all()) for values in found):
            msg = f"{type(pl_module).__name__} gives scores that are not finite."
            raise ValueError(msg)
        if outputs.pred_score is not None:
            outputs.raw_score = outputs.pred_score.detach().float().clone()
            outputs.score_order = ordered(outputs.raw_score)
        if outputs.anomaly_map is not None:
            outputs.raw_map = outputs.anomaly_map.detach().float().clone()
            outputs.map_order = ordered(outputs.raw_map)


def ordered(values: torch.Tensor) -> torch.Tensor:
    """Map numbers to [0, 1), in order and without ties: torchmetrics puts others through a sigmoid, which saturates.

    Read as an integer, a positive float32 keeps its order, and a negative one has it reversed.

    Args:
        values: float32, finite, of any shape.

    Returns:
        float64 of the same shape; equal only where the values are.

    Example:
        >>> import torch
        >>> ordered(torch.tensor([3e38, -3e38, 0.0, 1e-45])).argsort().tolist()
        [1, 2, 3, 0]
    """
    bits = (values + 0.0).view(torch.int32).long()  # adding makes 0 of -0
    return torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits).double() / 2**32 + 0.5


def evaluator(own: Any) -> Evaluator:
    """Make an evaluator that tests with image AUROC, average precision and F1, pixel AUROC, AUPRO and F1.

    It needs :class:`RawScores`. F1 scores are of labels and masks as anomalib gives them.

    Args:
        own: The model's evaluator or None, whose metrics of validation are kept: callbacks may wait for them.
    """
    image, mask = ["score_order", "gt_label"], ["map_order", "gt_mask"]
    metrics: list[AnomalibMetric] = [
        AUROC(fields=image, prefix="image_"),
        AUPR(fields=image, prefix="image_"),
        F1Score(fields=["pred_label", "gt_label"], prefix="image_"),
        # Without masks or maps there is no figure for pixels, and no error.
        AUROC(fields=mask, prefix="pixel_", strict=False),
        AUPRO(fields=["raw_map", "gt_mask"], prefix="pixel_", strict=False),  # takes any number, in single precision
        F1Score(fields=["pred_mask", "gt_mask"], prefix="pixel_", strict=False),
    ]
    return Evaluator(val_metrics=list(own.val_metrics) if own is not None else None, test_metrics=metrics)
