# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The bootstrap behind intervals and bold figures, against SciPy's, closed forms and simulated noise."""

import math

import numpy as np
import pytest
from scipy import stats

from anomalib_ssl.report.noise import interval, leaders, resample


def widened(result, units):
    """SciPy's interval about its middle, by the ratio of Student's t to the normal distribution."""
    middle = result.bootstrap_distribution.mean()
    ratio = math.sqrt(units / (units - 1)) * stats.t.interval(0.95, units - 1)[1] / stats.norm.interval(0.95)[1]
    return [middle + ratio * (end - middle) for end in result.confidence_interval]


def scipy(values, statistic, paired):
    return stats.bootstrap(
        values, statistic, paired=paired, vectorized=True, method="percentile", n_resamples=50_000, rng=1
    )


@pytest.mark.parametrize("count", [3, 7, 15])
def test_intervals_over_categories_agree_with_scipy(count):
    ours, theirs = np.random.default_rng(count).normal(0.8, 0.1, (2, count))
    theirs = ours + 0.3 * (theirs - 0.7)  # categories are as hard for both
    draws = resample([ours[:, None], theirs[:, None]])
    reference = widened(scipy([ours], np.mean, False), count)
    np.testing.assert_allclose(interval(draws[0], count), reference, atol=0.1 * np.ptp(reference))
    difference = scipy([ours, theirs], lambda a, b, axis: np.mean(a - b, axis=axis), True)
    reference = widened(difference, count)
    np.testing.assert_allclose(interval(draws[0] - draws[1], count), reference, atol=0.1 * np.ptp(reference))


def test_intervals_over_runs_agree_with_scipy():
    ours, theirs = np.random.default_rng(0).normal(0.8, 0.1, (2, 6))
    draws = resample([ours[None], theirs[None]])
    difference = scipy([ours, theirs], lambda a, b, axis: a.mean(axis=axis) - b.mean(axis=axis), False)
    reference = widened(difference, 6)
    np.testing.assert_allclose(interval(draws[0] - draws[1], 6), reference, atol=0.1 * np.ptp(reference))


def test_runs_are_drawn_anew_for_each_category_drawn():
    """The variance of such a mean in closed form: that of categories, and that of runs within them."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (8, 9))
    values[:5, 3:] = values[5, 1:] = values[6, :1] = np.nan
    values += rng.normal(0, 0.2, (8, 1)) - np.nanmean(values, axis=1, keepdims=True)
    means, within = np.nanmean(values, axis=1), np.nanvar(values, axis=1) / (~np.isnan(values)).sum(axis=1)
    (draws,) = resample([values])
    assert draws.shape == (2000,)
    assert draws.mean() == pytest.approx(means.mean(), abs=4 * draws.std() / math.sqrt(2000))
    assert draws.var() == pytest.approx((means.var() + within.mean()) / 8, rel=0.13)
    np.testing.assert_array_equal(resample([values])[0], draws)


@pytest.mark.parametrize("shape", [(2, 1), (3, 1), (5, 1), (15, 1), (4, 3), (1, 3), (1, 5)])
def test_noise_is_seldom_bold(shape):
    """Of two alike, one is bold in few of many tables; without widening it is in a quarter, for three categories."""
    found = 0
    for seed in range(150):
        values = np.random.default_rng(seed).normal(0.8, 0.1, (2, *shape))
        units = shape[0] if shape[0] > 1 else shape[1]
        found += leaders(values.mean(axis=(1, 2)), resample(list(values)), units).any()
    assert found <= 0.12 * 150


def test_leaders_are_the_best_and_those_alike():
    noise = np.random.default_rng(0).normal(0, 0.01, (3, 10, 3))
    values = noise + np.array([0.80, 0.801, 0.5])[:, None, None]
    values = values + np.linspace(-0.1, 0.1, 10)[:, None]  # categories differ, for all alike

    def told(*chosen, units=10):
        return list(leaders(values[list(chosen)].mean(axis=(1, 2)), resample(values[list(chosen)]), units))

    assert told(0, 1, 2) == [True, True, False]
    assert told(2, 1) == [False, True]
    assert told(0, 1) == [False, False]
    assert told(0) == [False]
    assert told(0, 1, 2, units=1) == [False] * 3, "a single run tells nothing"


def test_figures_that_look_the_same_are_alike():
    values = [np.full((4, 2), 0.9), np.full((4, 3), 0.9004), np.full((4, 1), 0.89)]
    assert list(leaders(np.array([0.9, 0.9004, 0.89]), resample(values), 4)) == [True, True, False]
