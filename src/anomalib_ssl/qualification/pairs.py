# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Two models on the same planted images."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anomalib_ssl.report.noise import RESAMPLES, interval


class Pair(NamedTuple):
    """How often each of two models finds what.

    Args:
        both: Defects found by both.
        first: Found by the first one alone.
        second: Found by the second one alone.
        neither: Found by none.
        difference: Share of hits of the second less that of the first.
        low: Lower end of its 95 % interval; None of one sound image.
        high: Upper end, likewise.
    """

    both: int
    first: int
    second: int
    neither: int
    difference: float
    low: float | None
    high: float | None


def compare(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], sources: npt.NDArray[np.int_]) -> Pair:
    """Compare hits on the same defects.

    The interval is a bootstrap over sound images rather than over defects: those that were planted in the same image
    tell less than as many in different ones. Of few images it is widened as those of reports are.

    Args:
        first: Hits of the first model (N,).
        second: Hits of the second (N,).
        sources: Index of the sound image of each defect (N,).

    Example:
        >>> one, other = np.arange(40) < 10, np.arange(40) < 30
        >>> found = compare(one, other, np.arange(40))
        >>> found[:5]
        (10, 0, 20, 10, 0.5)
    """
    table = np.array(
        [[(first & second).sum(), (first & ~second).sum()], [(~first & second).sum(), (~first & ~second).sum()]]
    )
    gain = second.astype(float) - first.astype(float)
    images, inverse = np.unique(sources, return_inverse=True)
    sums, counts = np.bincount(inverse, gain), np.bincount(inverse)
    drawn = np.random.default_rng(0).integers(len(images), size=(RESAMPLES, len(images)))
    draws = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = interval(draws, len(images)).clip(-1, 1).tolist() if len(images) > 1 else (None, None)
    (both, alone), (other, neither) = table.tolist()
    return Pair(both, alone, other, neither, float(gain.mean()), low, high)
