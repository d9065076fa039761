# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What densities of normal features have in common: scaling, fitted state, streamed moments."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.moments import Moments


class NotFittedError(RuntimeError):
    """Raised when scores are asked of a density that has not been fitted."""


class Density(nn.Module):
    """Base of the densities: an unfitted one refuses to score, a fitted one travels with its state dict.

    Args:
        l2_normalize: Whether features are scaled to unit length.
    """

    num_samples: torch.Tensor

    def __init__(self, l2_normalize: bool) -> None:
        super().__init__()
        self.l2_normalize = l2_normalize
        self.is_fitted = False
        self.register_buffer("num_samples", torch.zeros((), dtype=torch.long))

    def _scale(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features, dim=-1) if self.l2_normalize else features

    def _float64_device(self) -> torch.device:
        """Where to fit: beside the buffers, or on the host, since not every accelerator has float64."""
        device = self.num_samples.device
        return device if device.type == "cuda" else torch.device("cpu")

    def _moments(self, batches: Iterable[torch.Tensor], num_features: int) -> Moments:
        """Moments of scaled features that come as batches (N_i, D)."""
        moments = Moments(num_features, self._float64_device())
        for batch in batches:
            # Slices, because a batch may be large and its copy in float64 is twice as large.
            for features in batch.detach().split(8192):
                moments.update(self._scale(features.to(moments.device, torch.float64)))
        return moments

    def _set_fitted(self, num_samples: int) -> None:
        self.num_samples.fill_(num_samples)
        self.is_fitted = num_samples > 0

    def _require_fitted(self) -> None:
        if not self.is_fitted:
            msg = "The density of normal features has not been fitted: train the model or load a trained checkpoint."
            raise NotFittedError(msg)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # Kept as a plain bool: reading the buffer at every score would synchronise with the device.
        self.is_fitted = bool(self.num_samples > 0)
