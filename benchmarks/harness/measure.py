# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Timing of competitors in turns, so that whatever disturbs the machine disturbs all of them."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Competitor:
    """Something to be timed.

    Args:
        name: Its name in the report.
        call: One unit of its work.
        warmup: Calls before the clock counts, at least 1. Compilation happens there.
    """

    name: str
    call: Callable[[], object]
    warmup: int = 2


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one competitor.

    Args:
        repeats: One figure for each turn.
        warmup_seconds: Duration of all warm-up calls.
        warmup_calls: Their number.
    """

    repeats: tuple[float, ...]
    warmup_seconds: float = 0.0
    warmup_calls: int = 0

    @property
    def quartiles(self) -> tuple[float, float, float]:
        """Lower quartile, median and upper quartile over the turns."""
        low, median, high = np.percentile(self.repeats, [25, 50, 75]).tolist()
        return low, median, high

    @property
    def median(self) -> float:
        """Median over the turns."""
        return self.quartiles[1]

    @property
    def spread(self) -> float:
        """Inter-quartile range as a share of the median."""
        low, median, high = self.quartiles
        return (high - low) / median

    @property
    def first_use_seconds(self) -> float:
        """What the warm-up took beyond the ordinary cost of its calls: compilation, for what is compiled."""
        return max(self.warmup_seconds - self.warmup_calls * self.median, 0.0)


@dataclass(frozen=True)
class Skipped:
    """Why a competitor could not run."""

    reason: str


def synchronizer(device: torch.device | str) -> Callable[[], None]:
    """Give the function that waits until all work handed to a device is done."""
    return torch.cuda.synchronize if torch.device(device).type == "cuda" else _nothing


def measure(
    competitors: Sequence[Competitor],
    repeats: int = 7,
    min_seconds: float = 0.2,
    synchronize: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing | Skipped]:
    """Time competitors in turns.

    Each is warmed up first; one that fails there with a ``TypeError`` or a ``RuntimeError`` (an unsupported data type,
    no compiler, too little memory) is skipped. Then, ``repeats`` times, each has its turn: as many calls as last
    ``min_seconds``, with the device synchronised before the clock is read. Every other round goes in the opposite
    order, so that a machine that slows down steadily slows down all.

    Args:
        competitors: What to time; names must differ.
        repeats: Number of turns, at least 1.
        min_seconds: Least duration of a turn, beside which reading the clock and synchronising cost nothing.
        synchronize: See :func:`synchronizer`. Defaults to nothing.
        clock: Seconds from some fixed time.

    Returns:
        For each name its timing, or why it was skipped.
    """
    synchronize = synchronize or _nothing

    def seconds(call: Callable[[], object], calls: int) -> float:
        start = clock()
        for _ in range(calls):
            call()
        synchronize()
        return clock() - start

    results: dict[str, Timing | Skipped] = {}
    warmups: dict[str, float] = {}
    runners: list[tuple[Competitor, int]] = []
    for competitor in competitors:
        try:
            synchronize()
            warmup = [seconds(competitor.call, 1) for _ in range(competitor.warmup)]
        except (TypeError, RuntimeError) as error:
            results[competitor.name] = Skipped(f"{type(error).__name__}: {_first_line(error)}")
            continue
        warmups[competitor.name] = sum(warmup)
        runners.append((competitor, max(math.ceil(min_seconds / max(warmup[-1], 1e-9)), 1)))

    # What imports and compilation left behind would make collections long, and hit whoever's turn it is.
    gc.collect()
    gc.freeze()
    turns: dict[str, list[float]] = {competitor.name: [] for competitor, _ in runners}
    for repeat in range(repeats):
        for competitor, calls in runners if repeat % 2 == 0 else reversed(runners):
            turns[competitor.name].append(seconds(competitor.call, calls) / calls)
    gc.unfreeze()
    for competitor, _ in runners:
        name = competitor.name
        results[name] = Timing(tuple(turns[name]), warmups[name], competitor.warmup)
    return {competitor.name: results[competitor.name] for competitor in competitors}


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else "no message"


def _nothing() -> None:
    pass
