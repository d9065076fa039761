# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Probability of detection over size or contrast, as MIL-HDBK-1823A estimates it from hits and misses.

The handbook's model: the log-odds of a hit are a straight line over the logarithm of the size. The size found with 90 %
probability is ``a90``, and ``a90/95`` its upper bound at 95 % confidence, by the likelihood ratio.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import statsmodels.api as sm
from scipy.optimize import brentq, minimize_scalar
from scipy.special import expit, log_expit, logit
from scipy.stats import chi2, norm

LEAST = 5
"""Fewer hits, or misses, than these are too few to fit a curve to."""

STEEPEST = 100.0
"""Slopes are no steeper, in log-odds over the natural logarithm: from 1 % to 99 % within a tenth of the value."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value that is found with some probability.

    Args:
        value: The estimate; None where it lies outside of what was planted.
        low: Lower end of its 95 % confidence interval; None where that lies outside, or there is no estimate.
        high: Upper end.
        note: Why there is no value; empty if there is.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Pod:
    """A curve of the probability of detection.

    Args:
        values: Distinct values that were planted, in ascending order.
        rates: Share of hits at each of them.
        counts: Number of defects at each of them.
        note: Why no curve can be fitted; empty if it can.
        intercept: Log-odds of a hit at the value 1.
        slope: Their change over the natural logarithm of the value.
        covariance: Of intercept and slope.
        half: What is found with 50 % probability, ``a50``.
        ninety: What is found with 90 % probability, ``a90``.
        bound: ``a90/95``: an upper bound of it, one-sided, at 95 % confidence; None where it lies above all that was
            planted.
    """

    values: tuple[float, ...]
    rates: tuple[float, ...]
    counts: tuple[int, ...]
    note: str = ""
    intercept: float = math.nan
    slope: float = math.nan
    covariance: tuple[tuple[float, float], tuple[float, float]] = ((math.nan, math.nan), (math.nan, math.nan))
    half: Estimate | None = None
    ninety: Estimate | None = None
    bound: float | None = None

    def curve(self, values: Array) -> tuple[Array, Array, Array]:
        """Compute probabilities at some values and their pointwise 95 % confidence band, by the delta method."""
        design = np.stack([np.ones_like(values), np.log(values)], axis=1)
        line = design @ np.array([self.intercept, self.slope])
        error = np.sqrt(np.einsum("ni,ij,nj->n", design, np.array(self.covariance), design))
        width = norm.ppf(0.975) * error
        return expit(line), expit(line - width), expit(line + width)


def fit_pod(values: Array, hits: npt.NDArray[np.bool_]) -> Pod:
    """Fit the probability of detection over size, or over contrast, by logistic regression on the logarithm.

    Args:
        values: Positive sizes or contrasts (N,).
        hits: Which were found (N,).

    Returns:
        The curve; with a note in place of figures where these cannot be estimated.

    Example:
        >>> sizes = np.repeat([2.0, 4, 8, 16, 32], 20)
        >>> found = np.random.default_rng(0).random(100) < expit(3 * np.log(sizes / 5))
        >>> pod = fit_pod(sizes, found)
        >>> print(f"a50 {pod.half.value:.1f}, a90 {pod.ninety.value:.1f}, a90/95 {pod.bound:.1f}")
        a50 4.9, a90 11.8, a90/95 17.3
    """
    distinct, inverse = np.unique(values, return_inverse=True)
    counts: Array = np.bincount(inverse, minlength=len(distinct)).astype(float)
    found: Array = np.bincount(inverse, weights=hits, minlength=len(distinct)).astype(float)
    points = (
        tuple(distinct.tolist()),
        tuple((found / np.maximum(counts, 1)).tolist()),
        tuple(counts.astype(int).tolist()),
    )
    note = _unfit(values, hits)
    if note:
        return Pod(*points, note)
    result = sm.GLM(hits.astype(float), sm.add_constant(np.log(values)), family=sm.families.Binomial()).fit()
    intercept, slope = (float(value) for value in result.params)
    if slope <= 0:
        return Pod(*points, "the share of hits does not rise")
    fitted = _Fit(np.log(distinct), found, counts - found, intercept, slope)
    ninety = _estimate(0.9, fitted)
    return Pod(
        *points,
        intercept=intercept,
        slope=slope,
        covariance=tuple(map(tuple, np.asarray(result.cov_params()).tolist())),  # type: ignore[arg-type]
        half=_estimate(0.5, fitted),
        ninety=ninety,
        # One-sided at 95 %: the upper end of a two-sided interval at 90 %.
        bound=fitted.bound(0.9, 0.90, 1) if ninety.value is not None else None,
    )


def _unfit(values: Array, hits: npt.NDArray[np.bool_]) -> str:
    """Why no curve can be fitted, if so."""
    count, found = len(hits), int(hits.sum())
    if found < LEAST:
        return f"too few hits: {found} of {count}"
    if count - found < LEAST:
        return f"too few misses: {count - found} of {count}"
    if len(np.unique(values)) < 3:
        return "fewer than three different values"
    if values[hits].max() <= values[~hits].min():
        return "the share of hits does not rise"
    smallest_hit, largest_miss = values[hits].min(), values[~hits].max()
    if smallest_hit >= largest_miss:
        return "hits and misses do not overlap: plant values in between"
    return ""


def _estimate(probability: float, fitted: "_Fit") -> Estimate:
    place, smallest, largest = fitted.place(probability), fitted.logs[0], fitted.logs[-1]
    if place > largest:
        return Estimate(None, note=f"above {math.exp(largest):.3g}, the largest planted")
    if place < smallest:
        return Estimate(None, note=f"below {math.exp(smallest):.3g}, the smallest planted")
    low, high = (fitted.bound(probability, 0.95, sign) for sign in (-1, 1))
    return Estimate(math.exp(place), low, high)


@dataclass(frozen=True)
class _Fit:
    """A fitted line, and the hits and misses at each logarithm of a value (V,) that it was fitted to."""

    logs: Array
    hits: Array
    misses: Array
    intercept: float
    slope: float

    def place(self, probability: float) -> float:
        """The logarithm of the value that is found with this probability."""
        return float((logit(probability) - self.intercept) / self.slope)

    def bound(self, probability: float, confidence: float, sign: int) -> float | None:
        """An end of the likelihood-ratio interval of the value that is found with a probability; None if outside.

        Where that value is supposed to be ``x``, one parameter is left, the slope over ``log(value) - log(x)``.
        """
        allowed = self._likelihood(self.intercept + self.slope * self.logs) - chi2.ppf(confidence, 1) / 2

        def excess(at: float) -> float:
            def loss(slope: float) -> float:
                return -self._likelihood(logit(probability) + slope * (self.logs - at))

            # Convex: its minimum between 0 and a slope that is a step function already.
            steepest = max(STEEPEST, 2 * self.slope)
            return float(allowed + minimize_scalar(loss, bounds=(0, steepest), method="bounded").fun)

        place, end = self.place(probability), float(self.logs[-1] if sign > 0 else self.logs[0])
        if excess(end) <= 0:
            return None
        # At the estimate itself nothing is in excess, but for rounding.
        return float(math.exp(brentq(excess, place, end, xtol=1e-6) if excess(place) < 0 else place))

    def _likelihood(self, line: Array) -> float:
        return float(self.hits @ log_expit(line) + self.misses @ log_expit(-line))
