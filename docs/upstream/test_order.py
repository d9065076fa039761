# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of order-beyond-the-range.patch, for tests/unit/post_processing of anomalib."""

import pytest
import torch
from anomalib.post_processing import PostProcessor
from torchmetrics.functional.classification import binary_auroc


def normalized(scores, low, high, threshold):
    """Normalise as the post-processor does."""
    return PostProcessor._normalize(scores, *(torch.tensor(value) for value in (low, high, threshold)))


@pytest.mark.parametrize("threshold", [0.0, 3.0, 9.0])
def test_different_scores_stay_different(threshold):
    scores = torch.linspace(-50, 60, 200)
    found = normalized(scores, 0.0, 10.0, threshold)
    assert (found.diff() > 0).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_threshold_is_one_half():
    assert normalized(torch.tensor([3.0]), 0.0, 10.0, 3.0).item() == 0.5


def test_values_move_by_a_thousandth_at_most():
    scores = torch.linspace(-50, 60, 200)
    before = ((scores - 3) / 10 + 0.5).clamp(0, 1)
    assert (normalized(scores, 0.0, 10.0, 3.0) - before).abs().max() <= 1.001e-3


def test_auroc_is_that_of_the_scores():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2).repeat_interleave(100)
    # Anomalous images score lower, so that F1 is best if all are called anomalous: the threshold is the lowest score.
    scores = torch.randn(200, generator=generator) - 0.5 * labels
    expected = binary_auroc(scores.sigmoid(), labels)
    found = normalized(scores, *(value.item() for value in (scores.min(), scores.max(), scores.min())))
    torch.testing.assert_close(binary_auroc(found, labels), expected)
