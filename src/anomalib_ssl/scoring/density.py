# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What densities of normal features have in common: scaling and streamed moments."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import TypeVar

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.fitted import Fitted
from anomalib_ssl.scoring.moments import Moments

D = TypeVar("D", bound="Density")


class Density(Fitted):
    """Base of the densities.

    Args:
        l2_normalize: Whether features are scaled to unit length.
    """

    def __init__(self, l2_normalize: bool) -> None:
        super().__init__()
        self.l2_normalize = l2_normalize

    def fit(self: D, batches: Iterable[torch.Tensor]) -> D:
        """Estimate the density in one pass over the features of normal images, without keeping them.

        Args:
            batches: What :meth:`update` takes. How features are divided changes the rounding of float64 alone.

        Returns:
            This density.

        Raises:
            ValueError: For the reasons of :meth:`update` and :meth:`finish`.
        """
        self.start()
        for batch in batches:
            self.update(batch)
        self.finish()
        return self

    @abstractmethod
    def start(self) -> None:
        """Forget what was fitted; :meth:`update` and :meth:`finish` follow."""

    @abstractmethod
    def update(self, features: torch.Tensor) -> None:
        """Take features of normal images into account.

        Raises:
            ValueError: If the shape is another.
        """

    @abstractmethod
    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there are fewer than 2 samples, or features are not finite.
        """

    def _scale(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features, dim=-1) if self.l2_normalize else features

    def _no_moments(self, num_features: int) -> Moments:
        """Moments of nothing yet, on the host unless the device is known to have float64."""
        device = self.num_fitted.device
        return Moments(num_features, device if device.type == "cuda" else "cpu")

    def _take(self, features: torch.Tensor, moments: Moments) -> None:
        """Add scaled features (N, D) to moments."""
        # Slices, because a batch may be large and its copy in float64 is twice as large.
        for part in features.detach().split(8192):
            moments.update(self._scale(part.to(moments.device, torch.float64)))
