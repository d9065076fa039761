# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bringing scores of different models to one scale."""

import torch

from anomalib_ssl.scoring.fitted import Fitted
from anomalib_ssl.scoring.moments import Moments

LEAST_SPREAD = 1e-9
"""Standard deviation below which scores count as equal, as a part of their mean; float64 leaves less by rounding."""


class Standardizer(Fitted):
    """Subtract the mean of normal scores and divide by their standard deviation; where all are equal only subtract it.

    Example:
        >>> import torch
        >>> standardize = Standardizer()
        >>> standardize.fit(Moments(1).update(torch.tensor([[1.0], [3.0]])))
        >>> standardize(torch.tensor([2.0, 4.0]))
        tensor([0., 2.])
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))

    def forward(self, scores: torch.Tensor) -> torch.Tensor:
        """Standardise scores of any shape.

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        self.require_fitted()
        return (scores - self.mean) / self.deviation

    def fit(self, moments: Moments) -> None:
        """Take mean and deviation from moments of normal scores, which are features of length 1 and summed in float64.

        Raises:
            ValueError: If there are fewer than 2 scores, or any is not finite.
        """
        self.forget()
        moments.require_samples()
        mean, deviation = moments.mean.item(), moments.covariance().clamp(min=0).sqrt().item()
        self.mean.fill_(mean)
        self.deviation.fill_(deviation if deviation > LEAST_SPREAD * abs(mean) else 1.0)
        self._set_fitted(moments.count)
