# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How often sound images are called defective, and the threshold at which they are as often as named."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta
from statsmodels.stats.proportion import proportion_confint


@dataclass(frozen=True)
class Rate:
    """A share of images with its 95 % confidence interval.

    Args:
        count: Images counted.
        total: Images in all.
        low: Lower end of the exact interval (Clopper and Pearson).
        high: Upper end.
    """

    count: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """The share itself."""
        return self.count / self.total


@dataclass(frozen=True)
class Threshold:
    """A threshold: images with a score above it are called defective.

    Args:
        value: The threshold, of raw scores.
        named: The rate of false alarms that was asked for.
        expected: The rate to be expected of further sound images like these.
        low: Lower end of the 95 % interval of the true rate.
        high: Upper end.
        note: What a reader should know; empty where the rate could be kept.
    """

    value: float
    named: float
    expected: float
    low: float
    high: float
    note: str = ""


def rate(count: int, total: int) -> Rate:
    """Give a share with its exact 95 % interval.

    Example:
        >>> found = rate(0, 59)
        >>> round(found.low, 3), round(found.high, 3)
        (0.0, 0.061)
    """
    return Rate(count, total, *map(float, proportion_confint(count, total, alpha=0.05, method="beta")))


def threshold(scores: npt.NDArray[np.float64], false_alarms: float) -> Threshold:
    """Choose the threshold that sound images exceed as often as named, or less.

    It is the k-th highest of n scores, with k = floor(rate * (n + 1)). A further image exceeds it with probability
    k / (n + 1), whatever the distribution of the scores, as long as it is drawn like the others; the true rate of a
    threshold that was found so follows Beta(k, n - k + 1). Where k would be 0 the images are too few for the rate: the
    highest score is taken, and the note says so.

    Args:
        scores: Raw scores of sound images (n,).
        false_alarms: The rate, in (0, 1).

    Example:
        >>> found = threshold(np.arange(99.0), 0.05)
        >>> found.value, found.expected
        (94.0, 0.05)
    """
    count = len(scores)
    wanted = math.floor(false_alarms * (count + 1) + 1e-9)
    place = min(max(wanted, 1), count)
    value = float(np.sort(scores)[-place])
    low, high = (float(beta.ppf(share, place, count - place + 1)) for share in (0.025, 0.975))
    needed = math.ceil(1 / false_alarms - 1e-9) - 1
    note = ""
    if wanted < 1:
        note = (
            f"{count} sound images are too few for a rate of {false_alarms:.3g}, which takes {needed}: the threshold "
            f"is their highest score"
        )
    return Threshold(value, false_alarms, place / (count + 1), low, high, note)
