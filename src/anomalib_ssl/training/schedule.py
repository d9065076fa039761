# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Learning rate schedules over the updates of a run."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_factor(update: int, total: int) -> float:
    """Half a cosine from 1 at update 0 to 0 at update ``total``."""
    return 0.5 * (1.0 + math.cos(math.pi * min(update, total) / max(total, 1)))


def cosine_schedule(optimizer: Optimizer, total: Callable[[], int], final: float = 0.0, warmup: int = 0) -> LambdaLR:
    """Decay the learning rate along one half cosine, stepped once per update.

    The rate is a function of the update and of the total alone, so a resumed run goes on where it stopped, and one that
    is resumed with a larger budget follows the longer cosine.

    Args:
        optimizer: The optimiser whose rate is scheduled.
        total: Gives the number of updates until the end, at least 1; asked at each update, since it may change.
        final: Share of the rate that is left at the end.
        warmup: Number of updates before that over which the rate rises linearly, a tenth of the total at most.

    Returns:
        The scheduler.
    """

    def factor(update: int) -> float:
        end = total()
        rise = min(warmup, end // 10)
        if update < rise:
            return (update + 1) / (rise + 1)
        return final + (1 - final) * cosine_factor(update - rise, max(end - rise, 1))

    return LambdaLR(optimizer, factor)


def fine_tuning_schedule(
    optimizer: Optimizer, total: Callable[[], int], head_updates: int, factors: tuple[float, float]
) -> LambdaLR:
    """Two half cosines to zero, one for training the head alone and one for fine-tuning everything.

    Args:
        optimizer: The optimiser whose rate is scheduled.
        total: Gives the number of updates of both stages, at least 1; asked at each update.
        head_updates: Number of updates of the first stage.
        factors: What the optimiser's rate is multiplied with at the start of each stage.

    Returns:
        The scheduler.
    """

    def factor(update: int) -> float:
        end = total()
        if update < head_updates:
            return factors[0] * cosine_factor(update, min(head_updates, end))
        return factors[1] * cosine_factor(update - head_updates, max(end - head_updates, 1))

    return LambdaLR(optimizer, factor)
