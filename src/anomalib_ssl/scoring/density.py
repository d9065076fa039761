# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What densities of normal features have in common: scaling and streamed moments."""

from collections.abc import Iterable

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.fitted import Fitted
from anomalib_ssl.scoring.moments import Moments


class Density(Fitted):
    """Base of the densities.

    Args:
        l2_normalize: Whether features are scaled to unit length.
    """

    def __init__(self, l2_normalize: bool) -> None:
        super().__init__()
        self.l2_normalize = l2_normalize

    def _scale(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features, dim=-1) if self.l2_normalize else features

    def _moments(self, batches: Iterable[torch.Tensor], num_features: int) -> Moments:
        """Moments of scaled features that come as batches (N_i, D)."""
        # On the host unless the device is known to have float64.
        device = self.num_fitted.device
        moments = Moments(num_features, device if device.type == "cuda" else "cpu")
        for batch in batches:
            # Slices, because a batch may be large and its copy in float64 is twice as large.
            for features in batch.detach().split(8192):
                moments.update(self._scale(features.to(moments.device, torch.float64)))
        return moments
