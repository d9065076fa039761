# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Probability of detection: known curves are recovered, and what cannot be estimated is said."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit

from anomalib_ssl.qualification.pod import fit_pod

SIZES = np.repeat([3.0, 5, 9, 16, 28, 50], 10)


def simulated(seed, a90=20.0, slope=2.5, sizes=SIZES):
    """Hits of a scorer that finds a defect of size ``a90`` with 90 % probability."""
    scores = slope * np.log(sizes / a90) + logit(0.9)
    return scores + np.random.default_rng(seed).logistic(size=len(sizes)) > 0


@pytest.mark.parametrize(("a90", "slope"), [(20.0, 2.5), (12.0, 4.0)])
def test_a_known_a90_is_recovered(a90, slope):
    pods = [fit_pod(SIZES, simulated(seed, a90, slope)) for seed in range(100)]
    ninety = [pod.ninety for pod in pods]
    # An end of the interval outside of what was planted is none.
    within = [
        one is not None and one.value is not None and (one.low or 0) <= a90 <= (one.high or math.inf) for one in ninety
    ]
    assert sum(within) >= 90
    known = [one.value for one in ninety if one is not None and one.value is not None]
    assert len(known) >= 90
    assert np.exp(np.mean(np.log(known))) == pytest.approx(a90, rel=0.15)


def test_the_bound_holds_in_nineteen_of_twenty():
    pods = [fit_pod(SIZES, simulated(seed)) for seed in range(200)]
    known = [pod for pod in pods if pod.ninety is not None and pod.ninety.value is not None]
    assert len(known) >= 190
    share = np.mean([(pod.bound or math.inf) >= 20.0 for pod in known])
    assert 0.90 <= share <= 0.99


def test_curves_may_be_steep():
    """Values planted close together, as is advised where hits and misses do not overlap."""
    sizes = np.repeat([40.0, 41, 42, 43, 44, 45], 10)
    hits = np.concatenate([np.arange(10) < found for found in (0, 0, 0, 1, 7, 10)])
    pod = fit_pod(sizes, hits)
    assert pod.slope > 100
    assert 43 < pod.ninety.low < pod.ninety.value < pod.bound < 45
    assert pod.ninety.high is None, "it lies above all that was planted"


def test_the_fit_is_the_maximum_of_the_likelihood():
    hits = simulated(0)
    pod = fit_pod(SIZES, hits)

    def likelihood(intercept, slope):
        chance = expit(intercept + slope * np.log(SIZES))
        return np.log(np.where(hits, chance, 1 - chance)).sum()

    best = likelihood(pod.intercept, pod.slope)
    for step in (-0.01, 0.01):
        assert likelihood(pod.intercept + step, pod.slope) < best
        assert likelihood(pod.intercept, pod.slope + step) < best
    # A likelihood-ratio bound: with a90 there, the best of what is left is worse by half of 2.706.
    slopes = np.linspace(0.05, 8, 4000)
    left = max(likelihood(logit(0.9) - slope * math.log(pod.bound), slope) for slope in slopes)
    assert 2 * (best - left) == pytest.approx(2.7055, abs=2e-3)
    assert pod.half.value < pod.ninety.value < pod.bound
    assert pod.ninety.low < pod.ninety.value < pod.ninety.high


def test_units_do_not_matter():
    hits = simulated(1)
    pixels, millimetres = fit_pod(SIZES, hits), fit_pod(SIZES * 0.05, hits)
    assert millimetres.ninety.value == pytest.approx(pixels.ninety.value * 0.05, rel=1e-5)
    assert millimetres.bound == pytest.approx(pixels.bound * 0.05, rel=1e-4)


def test_the_band_holds_the_curve():
    pod = fit_pod(SIZES, simulated(2))
    chance, low, high = pod.curve(np.array([5.0, pod.ninety.value, 50.0]))
    assert (low < chance).all()
    assert (chance < high).all()
    assert chance[1] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("hits", "note"),
    [
        (np.zeros(60, bool), "too few hits: 0 of 60"),
        (np.ones(60, bool), "too few misses: 0 of 60"),
        (np.arange(60) < 56, "too few misses: 4 of 60"),
        (SIZES > 10, "do not overlap"),
        (SIZES < 10, "does not rise"),
        (np.tile([True, True, True, True, False], 12) & (SIZES < 40), "does not rise"),
    ],
)
def test_what_cannot_be_estimated_is_said(hits, note):
    pod = fit_pod(SIZES, hits)
    assert note in pod.note
    assert pod.half is None
    assert pod.ninety is None
    assert pod.bound is None
    assert sum(pod.counts) == 60
    assert np.dot(pod.rates, pod.counts) == pytest.approx(hits.sum())


def test_of_two_sizes_there_is_no_curve():
    assert "three" in fit_pod(np.repeat([3.0, 9.0], 20), simulated(0, 5.0, 1.0, np.repeat([3.0, 9.0], 20))).note


def test_nothing_is_extrapolated():
    pods = [fit_pod(SIZES, simulated(seed, a90=120.0, slope=1.5)) for seed in range(20)]
    beyond = [pod for pod in pods if pod.ninety is not None and pod.ninety.value is None]
    assert len(beyond) > 10
    assert all("above 50, the largest planted" in pod.ninety.note for pod in beyond)
    assert all(pod.bound is None for pod in beyond)


def test_without_a_slope_there_is_no_bound():
    rng = np.random.default_rng(3)
    pods = [fit_pod(SIZES, rng.random(60) < 0.88 + 0.02 * np.log(SIZES / 9)) for _ in range(30)]
    known = [pod for pod in pods if not pod.note and pod.ninety.value is not None]
    assert known
    assert np.mean([pod.bound is None for pod in known]) > 0.8
