# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What everything that is estimated from normal images has in common: unfitted, it refuses to score."""

from typing import Any

import torch
from torch import nn


class NotFittedError(RuntimeError):
    """Raised when scores are asked of something that has not been fitted to normal images."""


class Fitted(nn.Module):
    """Base of what is fitted to normal images; whether it is travels with the state dict.

    A subclass calls :meth:`forget` before it changes its buffers and ``_set_fitted`` when they are complete, so that a
    fit that fails half-way leaves nothing to score with; and :meth:`require_fitted` before it scores.

    Attributes:
        num_fitted: Number of samples it was fitted to, a buffer; 0 for none.
        is_fitted: Whether it was fitted.
    """

    num_fitted: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # A plain bool beside the buffer: to read that at every score would wait for the device.
        self.is_fitted = False
        self.register_buffer("num_fitted", torch.zeros((), dtype=torch.long))

    def require_fitted(self) -> None:
        """Raise unless there is something to score with.

        Raises:
            NotFittedError: If it was not fitted and no fitted state was loaded.
        """
        if not self.is_fitted:
            msg = (
                f"{type(self).__name__} has not been fitted: train the model, or load a checkpoint that holds its "
                "statistics. A checkpoint written while a run broke off holds none: go on with "
                "`anomalib fit ... --ckpt_path CHECKPOINT`."
            )
            raise NotFittedError(msg)

    def forget(self) -> None:
        """Become unfitted."""
        self.num_fitted.zero_()
        self.is_fitted = False

    def _set_fitted(self, count: int) -> None:
        """Take note of the number of samples; raise if what they gave is not finite."""
        if not torch.stack([values.isfinite().all() for values in self.state_dict().values()]).all():
            msg = f"{type(self).__name__} must be fitted to finite values, got NaN or infinity: has training diverged?"
            raise ValueError(msg)
        self.num_fitted.fill_(count)
        self.is_fitted = count > 0

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.is_fitted = bool(self.num_fitted > 0)


def is_unfitted(module: nn.Module) -> bool:
    """Whether a module has parts that are to be fitted, and none of them is."""
    parts = [part.is_fitted for part in module.modules() if isinstance(part, Fitted)]
    return bool(parts) and not any(parts)
