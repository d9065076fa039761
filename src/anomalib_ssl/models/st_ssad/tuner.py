# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a tuning remembers from one phase to the next: first weights, the best start, the parameters settled on."""

import logging
from typing import Any

import torch
from torch import nn

from anomalib_ssl.checks import check_choice
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.schedule import Phase, TuningSchedule
from anomalib_ssl.models.st_ssad.selection import CRITERIA, Judgement
from anomalib_ssl.training.ema import Weights

logger = logging.getLogger(__name__)


class Tuner:
    """Put detector and augmentation into the state that each phase begins with.

    Every start begins with the same first weights. The best start's weights and parameters are gone on with, and the
    last training begins with the first weights again. The parameters settled on are the mean of the unconstrained
    numbers over the second half of the tuning, which the noise of single updates moves less than any single update's:
    this package's choice.

    Args:
        detector: The network.
        augmentation: The augmentation.
        selection: What the best start is chosen by, ``spread`` or ``loss``.
        given: Unconstrained numbers to begin with, in place of starts spread over the bounds. Defaults to none.

    Raises:
        ValueError: If ``selection`` is unknown.
    """

    def __init__(
        self,
        detector: nn.Module,
        augmentation: TunableAugmentation,
        selection: str = "spread",
        given: torch.Tensor | None = None,
    ) -> None:
        check_choice("selection", selection, CRITERIA)
        self.given = given
        self.detector = detector
        self.augmentation = augmentation
        self.selection = selection
        self.judgements: dict[int, Judgement] = {}
        self.tuned: torch.Tensor | None = None
        self._first: Weights | None = None
        self._best: tuple[int, Weights, torch.Tensor] | None = None
        self._sum = torch.zeros(0)
        self._count = 0

    def reset(self) -> None:
        """Forget everything but the detector's present weights, which are the first ones of a new run."""
        self.judgements = {}
        self.tuned = None
        self._first = copied(self.detector)
        self._best = None
        self._count = 0
        self._put(self.augmentation.starts(1)[0] if self.given is None else self.given)

    def begin(self, phase: Phase, schedule: TuningSchedule) -> None:
        """Prepare detector and augmentation for a phase, before its first update."""
        if phase.candidate is not None and phase.start == min(
            other.start for other in schedule.phases if other.candidate == phase.candidate
        ):
            self._load(self._first)
            if self.given is None:
                self._put(self.augmentation.starts(schedule.followed)[phase.candidate])
        elif phase.name == "tuning":
            if self._best is not None:
                number, weights, best = self._best
                self._load(weights)
                self._put(best)
                self._best = None
                logger.info("Start %d is gone on with.", number)
            self._sum, self._count = torch.zeros_like(self.augmentation.raw.data), 0
        elif phase.name == "training":
            self._load(self._first)
            self._first = None
            self.finish()

    def observe(self, phase: Phase, update: int) -> None:
        """Take note of the parameters after an update of a phase."""
        if phase.name == "tuning" and update >= (phase.start + phase.stop) // 2:
            self._sum += self.augmentation.raw.detach()
            self._count += 1

    def end_candidate(self, number: int, judgement: Judgement) -> None:
        """Keep a start if it is the best so far."""
        self.judgements[number] = judgement
        described = ", ".join(f"{name} {value:.4g}" for name, value in self.augmentation.described().items())
        logger.info(
            "Start %d ends at %s: spread of the scores %.4g, validation loss %.4g, DSV %.4g.",
            number,
            described,
            *judgement,
        )
        if self._best is None or judgement.beats(self.judgements[self._best[0]], self.selection):
            self._best = (number, copied(self.detector), self.augmentation.raw.detach().clone())

    def finish(self) -> None:
        """Settle on parameters, if that has not been done."""
        if self.tuned is None:
            self.tuned = self._settled()
            self._best = None
        self._put(self.tuned)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data and tensors."""
        best = self._best
        return {
            "judgements": {number: list(judgement) for number, judgement in self.judgements.items()},
            "tuned": self.tuned,
            "first": self._first,
            "best": None if best is None else {"number": best[0], "weights": best[1], "raw": best[2]},
            "sum": self._sum,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        best = state["best"]
        self.judgements = {number: Judgement(*values) for number, values in state["judgements"].items()}
        self.tuned = state["tuned"]
        self._first = state["first"]
        self._best = None if best is None else (best["number"], best["weights"], best["raw"])
        self._sum, self._count = state["sum"].to(self.augmentation.raw.device), state["count"]

    def _settled(self) -> torch.Tensor:
        if self._count:
            return self._sum / self._count
        return self._best[2] if self._best is not None else self.augmentation.raw.detach().clone()

    def _put(self, raw: torch.Tensor) -> None:
        with torch.no_grad():
            self.augmentation.raw.copy_(raw)

    def _load(self, weights: Weights | None) -> None:
        if weights is not None:
            self.detector.load_state_dict(weights)


def copied(module: nn.Module) -> Weights:
    """Copy weights and buffers of a module."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
