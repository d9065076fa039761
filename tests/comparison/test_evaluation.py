# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Ranks are measured on raw scores and maps, whatever their range and whatever the post-processor makes of them."""

import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.metrics import AUPRO
from anomalib.post_processing import PostProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_ssl.comparison.evaluation import RawScores, evaluator, ordered

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, derandomize=True)
@given(st.lists(FLOATS, min_size=2, max_size=20))
def test_order_keeps_ranks_and_equality(numbers):
    values = torch.tensor(numbers, dtype=torch.float32)
    keys = ordered(values)
    assert keys.dtype == torch.float64
    assert keys.min() >= 0
    assert keys.max() < 1
    torch.testing.assert_close(keys[:, None] < keys[None], values[:, None] < values[None])
    torch.testing.assert_close(keys[:, None] == keys[None], values[:, None] == values[None])


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_metrics_are_those_of_raw_values(scale):
    """Beside scikit-learn, with scores many of which the post-processor clamps."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2 == 1
    masks = torch.zeros(40, 8, 8, dtype=torch.bool)
    masks[labels, 2:5, 3:6] = True
    scores = (torch.randn(40, generator=generator) + labels) * scale - 3 * scale
    maps = (torch.randn(40, 1, 8, 8, generator=generator) + masks[:, None]) * scale
    raw, post_processor, measured = RawScores(), PostProcessor(), evaluator(None)
    narrow = {"image_min": -3.2, "image_max": -2.8, "image_threshold": -3.0, "pixel_min": -0.1, "pixel_max": 0.1}
    for name, value in {**narrow, "pixel_threshold": 0.0}.items():
        getattr(post_processor, f"_{name}" if hasattr(post_processor, f"_{name}") else name).fill_(value * scale)
    for part in torch.arange(40).split(7):
        batch = ImageBatch(
            image=torch.zeros(len(part), 3, 8, 8),
            gt_label=labels[part],
            gt_mask=masks[part],
            pred_score=scores[part],
            anomaly_map=maps[part],
        )
        raw.on_test_batch_end(None, None, batch)
        post_processor.post_process_batch(batch)
        assert (batch.pred_score == 1).float().mean() > 0, "some are clamped"
        for metric in measured.test_metrics:
            metric.update(batch)
    found = {metric.name: float(metric.compute()) for metric in measured.test_metrics}
    assert found["image_AUROC"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert found["image_AUPR"] == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    assert found["pixel_AUROC"] == pytest.approx(roc_auc_score(masks.flatten(), maps.flatten()), abs=1e-6)
    reference = AUPRO(fields=["anomaly_map", "gt_mask"])
    reference.update(ImageBatch(image=torch.zeros(40, 3, 8, 8), anomaly_map=maps / scale, gt_mask=masks))
    assert found["pixel_AUPRO"] == pytest.approx(float(reference.compute()), abs=1e-6)


@pytest.mark.parametrize("name", ["pred_score", "anomaly_map"])
def test_scores_that_are_not_finite_are_an_error(name):
    values = {"pred_score": torch.tensor([1.0, 2.0]), "anomaly_map": torch.zeros(2, 1, 4, 4)}
    values[name][0] = torch.nan
    batch = ImageBatch(image=torch.zeros(2, 3, 4, 4), gt_label=torch.tensor([0, 1]), **values)
    with pytest.raises(ValueError, match="PostProcessor gives scores that are not finite"):
        RawScores().on_test_batch_end(None, PostProcessor(), batch)


@pytest.mark.parametrize(
    ("labels", "pixels", "kept"),
    [
        ([0, 0], 0, []),
        ([1, 1], 3, ["pixel_AUROC"]),
        ([0, 1], 0, ["image_AUROC"]),
        ([0, 1], 3, ["image_AUROC", "pixel_AUROC"]),
    ],
)
def test_what_says_nothing_is_left_out(labels, pixels, kept):
    raw, masks = RawScores(), torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[1, 0, :pixels] = True
    batch = ImageBatch(image=torch.zeros(2, 3, 4, 4), gt_label=torch.tensor(labels), gt_mask=masks)
    raw.on_test_batch_end(None, None, batch)
    assert list(raw.meaningful({"image_AUROC": 0.5, "pixel_AUROC": 0.5})) == kept


def test_without_masks_there_is_no_figure_of_pixels():
    batch = ImageBatch(
        image=torch.zeros(2, 3, 4, 4), gt_label=torch.tensor([0, 1]), pred_score=torch.tensor([1.0, 2.0])
    )
    RawScores().on_test_batch_end(None, None, batch)
    for metric in evaluator(None).test_metrics:
        if "F1" not in metric.name:
            metric.update(batch)
