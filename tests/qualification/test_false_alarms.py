# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""False alarms: exact intervals, and thresholds that keep the rate they were chosen for."""

import numpy as np
import pytest
from scipy.stats import binom

from anomalib_ssl.qualification.false_alarms import rate, threshold


@pytest.mark.parametrize(("count", "total"), [(0, 40), (1, 40), (7, 40), (40, 40)])
def test_the_interval_is_that_of_clopper_and_pearson(count, total):
    found = rate(count, total)
    assert found.low <= found.share <= found.high
    # At either end what was seen, or more of it, has a chance of 2.5 %.
    if count:
        assert binom.sf(count - 1, total, found.low) == pytest.approx(0.025)
    if count < total:
        assert binom.cdf(count, total, found.high) == pytest.approx(0.025)


@pytest.mark.parametrize("named", [0.02, 0.05, 0.1])
def test_further_images_keep_the_rate(named):
    rng = np.random.default_rng(0)
    found = [threshold(rng.normal(size=100), named) for _ in range(2000)]
    further = rng.normal(size=200_000)
    true = np.array([(further > one.value).mean() for one in found])
    assert true.mean() == pytest.approx(found[0].expected, rel=0.05)
    assert found[0].expected <= named
    inside = np.mean([one.low <= share <= one.high for one, share in zip(found, true, strict=True)])
    assert inside == pytest.approx(0.95, abs=0.02)


def test_too_few_images_are_said():
    scores = np.arange(40.0)
    found = threshold(scores, 0.01)
    assert found.value == 39
    assert found.expected == pytest.approx(1 / 41)
    assert "40 sound images are too few for a rate of 0.01, which takes 99" in found.note
    assert threshold(np.arange(99.0), 0.01).note == ""


def test_equal_scores_give_no_alarm():
    assert (np.ones(50) > threshold(np.ones(50), 0.1).value).sum() == 0
