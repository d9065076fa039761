# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random numbers from a torch generator, one value per sample of a batch, without a host synchronisation."""

import torch


def uniform(
    low: float,
    high: float,
    size: int,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw ``size`` floats uniformly from ``[low, high)``, shape (size,)."""
    return torch.rand(size, device=device, generator=generator) * (high - low) + low


def integers(
    low: int,
    high: int,
    size: int,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw ``size`` integers uniformly from ``{low, ..., high}``, both ends included, shape (size,)."""
    return torch.randint(low, high + 1, (size,), device=device, generator=generator)


def integers_up_to(high: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw one integer uniformly from ``{0, ..., high[i]}`` for every element of ``high``, shape of ``high``."""
    draw = torch.rand(high.shape, device=high.device, generator=generator)
    # The product can round up to high + 1 in float32.
    return (draw * (high + 1)).long().minimum(high)
