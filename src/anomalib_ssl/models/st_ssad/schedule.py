# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Which update of a run does what: a pure function of the budget."""

from dataclasses import dataclass
from typing import Literal

from anomalib_ssl.checks import check_number, check_whole
from anomalib_ssl.training.schedule import cosine_factor

LEAST_UPDATES = 4
"""With fewer updates for each of several starts, one is followed instead."""

SEARCH_SHARE = 0.5
"""Share of the tuning in which the starts are followed, in equal parts, to choose one."""

WARMUP_SHARE = 0.4
"""Share of a start's updates in which the detector alone is trained."""


@dataclass(frozen=True)
class Phase:
    """A stretch of updates.

    Attributes:
        name: ``warm start`` trains the detector alone; ``search`` and ``tuning`` tune the augmentation with it;
            ``training`` trains the detector from its first weights with the tuned augmentation.
        candidate: Number of the start that is followed, from 0; None where it is the best of them.
        start: First update.
        stop: The update after the last.
    """

    name: Literal["warm start", "search", "tuning", "training"]
    candidate: int | None
    start: int
    stop: int

    @property
    def tunes(self) -> bool:
        """Whether the augmentation is tuned."""
        return self.name in ("search", "tuning")

    def rate(self, update: int) -> float:
        """Factor of the detector's learning rate in an update: the last training decays it to zero along a cosine."""
        return cosine_factor(update - self.start, self.stop - self.start) if self.name == "training" else 1.0


@dataclass(frozen=True)
class TuningSchedule:
    """Split a run into phases.

    From each start a detector is trained for a while with the augmentation as it is, then tuned along with it. The best
    start is gone on with; then a detector is trained from its first weights. A budget too small for several starts has
    one. Every number here is this package's choice; the paper's schedule is not known.

    Args:
        total: Updates of the run, at least 1.
        starts: Number of starts, at least 1.
        tuning_share: Share of the run before the last training, in [0, 1].

    Raises:
        TypeError: If an argument is no number, or not whole where it must be.
        ValueError: If an argument is outside its limits.

    Example:
        >>> for phase in TuningSchedule(total=100, starts=2).phases:
        ...     print(phase.name, phase.candidate, phase.start, phase.stop)
        warm start 0 0 5
        search 0 5 12
        warm start 1 12 17
        search 1 17 24
        tuning None 24 50
        training None 50 100
    """

    total: int
    starts: int = 4
    tuning_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_whole("total", self.total, 1)
        check_whole("num_starts", self.starts, 1)
        check_number("tuning_share", self.tuning_share, 0, 1)

    @property
    def followed(self) -> int:
        """Number of starts that the budget allows to follow."""
        return self.starts if self.starts > 1 and self._updates_per_start >= LEAST_UPDATES else 1

    @property
    def phases(self) -> tuple[Phase, ...]:
        """All phases of at least one update, in order."""
        tuned = round(self.total * self.tuning_share)
        each = self._updates_per_start if self.followed > 1 else round(tuned * SEARCH_SHARE)
        # Without a single tuning update there would be nothing to judge.
        warmup = min(round(each * WARMUP_SHARE), max(each - 1, 0))
        phases: list[Phase] = []
        for candidate in range(self.followed):
            start = candidate * each
            phases.append(Phase("warm start", candidate, start, start + warmup))
            phases.append(Phase("search", candidate, start + warmup, start + each))
        begun = self.followed * each
        phases.append(Phase("tuning", None, begun, tuned))
        phases.append(Phase("training", None, tuned, self.total))
        return tuple(phase for phase in phases if phase.start < phase.stop)

    @property
    def tunes(self) -> bool:
        """Whether the augmentation is tuned at all."""
        return any(phase.tunes for phase in self.phases)

    def at(self, update: int) -> Phase:
        """The phase of an update, counted from 0; the last one beyond the end."""
        phases = self.phases
        return next((phase for phase in phases if update < phase.stop), phases[-1])

    @property
    def _updates_per_start(self) -> int:
        return int(round(self.total * self.tuning_share) * SEARCH_SHARE) // self.starts
