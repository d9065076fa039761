# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random numbers from a torch generator, drawn for the whole batch without a host synchronisation."""

from typing import TypeAlias

import torch

Device: TypeAlias = torch.device | str | None
"""Where tensors are to be; None for torch's default device."""

Shape: TypeAlias = tuple[int, ...]
"""Shape (B, C, H, W) of images, as a ``torch.Size`` is, too."""


def uniform(
    low: float,
    high: float,
    size: int | tuple[int, ...],
    device: Device = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw floats uniformly from ``[low, high)``, shape ``size``."""
    return torch.rand(size, device=device, generator=generator).mul_(high - low).add_(low)


def integers(
    low: int,
    high: int,
    size: int | tuple[int, ...],
    device: Device = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw integers uniformly from ``{low, ..., high}``, both ends included, shape ``size``."""
    size = (size,) if isinstance(size, int) else size
    return torch.randint(low, high + 1, size, device=device, generator=generator)


def integers_up_to(high: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draw one integer uniformly from ``{0, ..., high[i]}`` for every element of ``high``, shape of ``high``."""
    draw = torch.rand(high.shape, device=high.device, generator=generator)
    # The product can round up to high + 1 in float32.
    return (draw * (high + 1)).long().minimum(high)


def host_generator(generator: torch.Generator | None) -> torch.Generator | None:
    """Give a generator on the host whose numbers are decided by ``generator`` wherever that lives.

    A generator on an accelerator keeps its seed and position on the host, so that asking for them does not make the
    host wait.

    Returns:
        The generator itself where it lives on the CPU; none, which means torch's own CPU generator, for none.
    """
    if generator is None or generator.device.type == "cpu":
        return generator
    # An odd multiplier keeps different positions of one seed apart.
    seed = generator.initial_seed() + 0x9E3779B97F4A7C15 * (generator.get_offset() + 1)
    return torch.Generator().manual_seed(seed % 2**63)
