# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Noticing that all images have come to be projected onto one vector."""

import logging

import torch
from torch.nn import functional as F  # noqa: N812

logger = logging.getLogger(__name__)

COLLAPSED = 0.2
"""Spread below which projections count as collapsed."""


def spread(projected: torch.Tensor) -> torch.Tensor:
    """Standard deviation of unit vectors over a batch, times the root of their length (Chen and He, CVPR 2021, 4.1).

    Args:
        projected: Shape (B, D), B of at least 2.

    Returns:
        A scalar, about 1 for directions that are spread over all, 0 where all are one.

    Example:
        >>> import torch
        >>> round(float(spread(torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)))), 2)
        1.0
        >>> float(spread(torch.ones(10, 64)))
        0.0
    """
    vectors = F.normalize(projected.detach().float(), dim=1)
    return vectors.std(dim=0).mean() * vectors.shape[1] ** 0.5


class CollapseMonitor:
    """Average the spread of projections over updates, and warn once where it stays near 0.

    Args:
        interval: Updates between two looks; the device is waited for at these only.
    """

    def __init__(self, interval: int = 100) -> None:
        self.interval = interval
        self.warned = False
        self._sum: torch.Tensor | None = None
        self._count = 0

    def update(self, value: torch.Tensor) -> None:
        """Take the spread of an update into account."""
        self._sum = value if self._sum is None else self._sum + value
        self._count += 1
        if self._count < self.interval:
            return
        average = float(self._sum) / self._count
        self._sum, self._count = None, 0
        if average < COLLAPSED and not self.warned:
            self.warned = True
            logger.warning(
                "The representations have collapsed: all images are projected onto nearly one vector (spread %.2f over "
                "the last %d updates; 1 is spread out). Scores will be poor. Raise local_weight or negative_weight, or "
                "train with larger batches.",
                average,
                self.interval,
            )
