# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The Poisson equation on regions of any shape, for a whole batch at once."""

import math

import torch
from torch.nn import functional as F  # noqa: N812

SWEEPS = 12
"""Relaxations on each grid."""

SLOWEST = 0.01
"""Least eigenvalue of an error that relaxations are made for: the next coarser grid has done away with slower ones."""

MAJORITY = 0.5
"""A cell of a coarser grid is known from this share of known pixels on, so that outlines stay where they are."""


def solve_poisson(
    values: torch.Tensor, known: torch.Tensor, source: torch.Tensor | None = None, sweeps: int = SWEEPS
) -> torch.Tensor:
    """Continue values into a region, so that their Laplacian there is ``source``.

    The Laplacian is that of five points with a spacing of 1. Coarser grids are solved first, each a start for the next
    finer one (cascadic multigrid, Bornemann and Deuflhard, Numerische Mathematik 75, 1996), by Jacobi's relaxation with
    Chebyshev's weights: a fixed number of passes over the grid, each a sum of shifted copies. Pixels on the border of
    the grid that are not known keep what the coarser grid says.

    Args:
        values: Shape (B, C, H, W); read where ``known``.
        known: Boolean, shape (B, 1, H, W). What is not known is computed.
        source: The Laplacian, shape (B, C, H, W); 0 by default, which gives a membrane.
        sweeps: Relaxations on each grid.

    Returns:
        The values (B, C, H, W), unchanged where they were known. Where nothing is known of a sample they are 0.

    Example:
        >>> import torch
        >>> line = torch.arange(9.0).expand(1, 1, 9, 9)
        >>> known = torch.ones(1, 1, 9, 9, dtype=torch.bool)
        >>> known[..., 2:7, 2:7] = False
        >>> bool(((solve_poisson(line, known) - line).abs() < 0.5).all())
        True
    """
    weights = known.to(values.dtype)
    levels = [(values * weights, weights, source)]
    while min(levels[-1][1].shape[-2:]) > 2:
        total, weight, right = levels[-1]
        # Neighbours are twice as far from each other, so that the same curvature is four times the difference.
        levels.append((_halved(total), _halved(weight), None if right is None else 4 * _halved(right)))
    result: torch.Tensor | None = None
    omegas = _chebyshev(sweeps)
    for number, (total, weight, right) in reversed(list(enumerate(levels))):
        fixed = total / weight.clamp(min=1e-6)
        free = (weight < (MAJORITY if number else 1)).to(values.dtype)
        start = _mean(total, weight) if result is None else _enlarged(result, fixed)
        result = _relaxed(torch.lerp(fixed, start, free), free, right, omegas)
    assert result is not None  # noqa: S101  # there is one level at least
    return result


def _halved(values: torch.Tensor) -> torch.Tensor:
    """Means of two by two values; a last odd row or column has fewer."""
    return F.avg_pool2d(values, 2, ceil_mode=True, count_include_pad=False)


def _enlarged(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Twice the resolution, by bilinear interpolation."""
    height, width = like.shape[-2:]
    doubled = F.interpolate(values, scale_factor=2, mode="bilinear", align_corners=False)
    return doubled[..., :height, :width]


def _mean(total: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean of what is known, everywhere."""
    whole = weight.sum(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    return (total.sum(dim=(2, 3), keepdim=True) / whole).expand_as(total)


def _chebyshev(sweeps: int) -> list[float]:
    """Weights of Jacobi's relaxation under which errors with eigenvalues from :data:`SLOWEST` to 2 shrink evenly."""
    middle, reach = (2 + SLOWEST) / 2, (2 - SLOWEST) / 2
    roots = [middle - reach * math.cos(math.pi * (number + 0.5) / sweeps) for number in range(sweeps)]
    # Large and small ones in turn, so that nothing grows in between.
    half = (sweeps + 1) // 2
    order = [root for pair in zip(roots[half:][::-1], roots[:half], strict=False) for root in pair]
    return [1 / root for root in order + roots[half - 1 : half] * (sweeps % 2)]


def _relaxed(
    values: torch.Tensor, free: torch.Tensor, source: torch.Tensor | None, omegas: list[float]
) -> torch.Tensor:
    """Bring each free value closer to what its four neighbours and the source ask for, in place."""
    height, width = values.shape[-2:]
    if min(height, width) < 3:
        return values
    # Shifts of all pixels in one row are much faster than shifts of planes. They run over borders, which are not free.
    inner = F.pad(free[..., 1:-1, 1:-1], (1, 1, 1, 1)).expand_as(values).contiguous().view(-1)[width:-width]
    quarter = inner / 4
    pixels = values.contiguous().view(-1)
    right = None if source is None else source.contiguous().view(-1)[width:-width]
    for omega in omegas:
        missing = pixels[2 * width :] + pixels[: -2 * width]
        missing.add_(pixels[width + 1 : pixels.numel() - width + 1]).add_(pixels[width - 1 : -width - 1])
        missing.sub_(pixels[width:-width], alpha=4)
        if right is not None:
            missing.sub_(right)
        pixels[width:-width].addcmul_(missing, quarter, value=omega)
    return pixels.view(values.shape)
