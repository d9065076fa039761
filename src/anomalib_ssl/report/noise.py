# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is beyond noise: a bootstrap over categories and the runs within each."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

Array = npt.NDArray[Any]

RESAMPLES, LOW, HIGH = 2000, 0.025, 0.975

BOLD = (
    "Bold: the best of its group at its resolution (and budget in minutes), with all whose difference from it has a "
    f"95 % interval that contains 0 (bootstrap over categories and their runs, {RESAMPLES:,} resamples, wider for few "
    "as Student's t is); nothing if that is so of all, or if there is nothing to resample."
)


def resample(runs: Sequence[Array]) -> Array:
    """Resample means over categories: a category counts as often as it is drawn, each time with newly drawn runs.

    Args:
        runs: Values of each contender (categories, runs); not a number where a run lacks the category, as not all may.

    Returns:
        Means (contenders, resamples). The categories drawn are the same for all contenders.
    """
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(runs[0]), size=(RESAMPLES, len(runs[0])))
    means = []
    for values in runs:
        known = (~np.isnan(values)).sum(axis=1)
        places, counts = np.arange(known.max()), known[drawn][..., None]
        picks = (rng.random((*drawn.shape, places.size)) * counts).astype(int)
        picked = np.sort(values, axis=1)[drawn[..., None], picks]  # what is missing comes last
        means.append(picked.mean(axis=2, where=places < counts).mean(axis=1))
    return np.array(means)


def interval(draws: Array, units: int) -> Array:
    """The ends (2, ...) of the 95 % interval of figures (..., resamples), not numbers if drawn from one unit.

    That of few units, categories or runs, is too narrow: it is widened as Student's t is.
    """
    wider = t.ppf(HIGH, units - 1) / norm.ppf(HIGH) * math.sqrt(units / max(units - 1, 1))
    middle = draws.mean(axis=-1)
    return middle + wider * (np.quantile(draws, (LOW, HIGH), axis=-1) - middle)


def leaders(means: Array, draws: Array, units: int) -> Array:
    """Tell which of several means is the highest, or not distinguishable from it; none if that is so of all."""
    low, _ = interval(draws[means.argmax()] - draws, units)
    alike = ~(low > 0.0005)  # half of the last digit that tables show
    return alike & ~alike.all()
