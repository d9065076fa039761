# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a tuning remembers from one phase to the next: first weights, the best start, the parameters settled on."""

import logging
from typing import Any

import torch
from torch import nn

from anomalib_ssl.checks import check_choice
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.schedule import Phase
from anomalib_ssl.models.st_ssad.selection import CRITERIA, Judgement
from anomalib_ssl.training.averaging import Weights

logger = logging.getLogger(__name__)


class Tuner:
    """Put detector and augmentation into the state that each phase begins with.

    Every start begins with the same first weights. The best start's weights and parameters are gone on with, and the
    last training begins with the first weights again. The parameters settled on are the mean of the unconstrained
    numbers over the second half of the tuning, which the noise of single updates moves less than any single update's:
    this package's choice.

    Its tensors may lie on another device than the detector, as they do after a checkpoint was loaded, since Lightning
    moves a model only then. So they are copied to where they are used.

    Args:
        detector: The network.
        augmentation: The augmentation.
        selection: What the best start is chosen by, ``spread`` or ``loss``.
        given: Unconstrained numbers to begin with, in place of starts spread over the bounds. Defaults to none.

    Attributes:
        judgements: What was found of each start that has ended, by its number.
        tuned: The unconstrained numbers settled on, if that has been done.

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
        self.detector = detector
        self.augmentation = augmentation
        self.selection = selection
        self.given = given
        self.judgements: dict[int, Judgement] = {}
        self.tuned: torch.Tensor | None = None
        self._first: Weights | None = None
        self._best: tuple[int, Weights, torch.Tensor] | None = None
        self._sum = torch.zeros(len(augmentation.raw))
        self._count = 0

    def reset(self) -> None:
        """Forget everything but the detector's present weights, which are the first ones of a new run."""
        self.judgements = {}
        self.tuned = None
        self._first = _copied(self.detector)
        self._best = None
        self._forget_sum()
        self._put(self.augmentation.starts(1)[0] if self.given is None else self.given)

    def begin(self, phase: Phase, num_starts: int) -> None:
        """Prepare detector and augmentation for a phase, before its first update.

        Args:
            phase: The phase.
            num_starts: Number of starts that are followed.
        """
        # Where a search comes first, for want of updates, it is that of the only start, with which a run begins anyway.
        if phase.name == "warm start":
            self._load(self._first)
            if self.given is None:
                self._put(self.augmentation.starts(num_starts)[int(phase.candidate or 0)])
        elif phase.name == "tuning":
            if self._best is not None:
                number, weights, raw = self._best
                self._load(weights)
                self._put(raw)
                self._best = None
                logger.info("Start %d is gone on with.", number)
            self._forget_sum()
        elif phase.name == "training":
            self._load(self._first)
            self._first = None
            self.finish()

    def observe(self, phase: Phase, update: int) -> None:
        """Take note of the parameters after an update of a phase."""
        if phase.name == "tuning" and update >= (phase.start + phase.stop) // 2:
            raw = self.augmentation.raw.detach()
            self._sum = self._sum.to(raw.device) + raw
            self._count += 1

    def end_candidate(self, number: int, judgement: Judgement) -> None:
        """Keep a start if it is the best so far."""
        self.judgements[number] = judgement
        logger.info(
            "Start %d ends at %s: spread of the scores %.4g, validation loss %.4g, DSV %.4g.",
            number,
            self.augmentation.in_words(),
            *judgement,
        )
        if self._best is None or judgement.beats(self.judgements[self._best[0]], self.selection):
            self._best = (number, _copied(self.detector), self.augmentation.raw.detach().clone())

    def finish(self) -> None:
        """Settle on parameters, if that has not been done."""
        if self.tuned is None:
            self.tuned = self._settled()
            self._best = None
        self._put(self.tuned)

    def state_dict(self) -> dict[str, Any]:
        """All of it as plain data and tensors."""
        return {
            "judgements": {number: list(judgement) for number, judgement in self.judgements.items()},
            "tuned": self.tuned,
            "first": self._first,
            "best": self._best,
            "sum": self._sum,
            "count": self._count,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a :meth:`state_dict`."""
        self.judgements = {number: Judgement(*values) for number, values in state["judgements"].items()}
        self.tuned, self._first, self._best = state["tuned"], state["first"], state["best"]
        self._sum, self._count = state["sum"], state["count"]

    def _settled(self) -> torch.Tensor:
        if self._count:
            return self._sum / self._count
        return self._best[2] if self._best is not None else self.augmentation.raw.detach().clone()

    def _forget_sum(self) -> None:
        self._sum, self._count = torch.zeros_like(self._sum), 0

    def _put(self, raw: torch.Tensor) -> None:
        with torch.no_grad():
            self.augmentation.raw.copy_(raw)

    def _load(self, weights: Weights | None) -> None:
        if weights is not None:
            self.detector.load_state_dict(weights)


def _copied(module: nn.Module) -> Weights:
    """Copy weights and buffers of a module."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
