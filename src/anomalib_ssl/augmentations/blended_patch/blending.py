# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bringing a patch into an image: as it is, through a soft mask, or by Poisson blending."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.blended_patch.laplace import SWEEPS, solve_poisson
from anomalib_ssl.checks import check_choice

BLENDS = ("poisson", "soft", "hard")
"""Names of the ways."""

GRADIENTS = ("source", "mixed")
"""Whose gradients Poisson blending keeps."""

STRIDE = 4
"""Side in pixels of the cells in which the membrane is computed: it is smooth, but for the outermost pixels."""

SEAM = 4.0
"""Width in pixels of the edge along which a Poisson-blended patch gives way to the image; less in small patches."""

_FAINT = 1e-3
"""Weight of the difference elsewhere outside, for cells that the inner side of the edge does not cross."""

SOFT_EDGE = 0.6
"""Width of the edge of a soft mask, as a share of the distance from the patch's outline to its middle."""


def blend_windows(
    target: torch.Tensor, source: torch.Tensor, level: torch.Tensor, blend: str = "poisson", gradients: str = "source"
) -> torch.Tensor:
    """Blend what lies inside an outline into windows of images.

    ``poisson`` keeps the gradients of the source, and the colours of the target along the outline (Pérez et al.,
    "Poisson Image Editing", SIGGRAPH 2003). The source is shifted by a *membrane*, the harmonic continuation of the
    difference along the outline. That is computed in cells of 4 by 4 pixels, because it is smooth; the finest detail of
    the difference, which fades within some pixels, is hidden by a soft edge of 4. (OpenCV's ``seamlessClone`` likewise
    keeps the image's gradients in an edge of 4 pixels.) With ``mixed`` gradients the stronger
    one of source and target is kept between each two pixels (equation 13 there), and the equation is solved pixel by
    pixel. ``soft`` mixes source and target with a share that rises from the outline inwards; ``hard`` pastes.

    Args:
        target: Windows of the images, shape (B, C, H, W), values in [0, 1]. Poisson blending needs some pixels of it
            around the outline.
        source: What is blended in, likewise.
        level: Distance in pixels to the outline, positive inside, shape (B, 1, H, W).
        blend: ``poisson``, ``soft`` or ``hard``.
        gradients: ``source`` or ``mixed``, for ``poisson``.

    Returns:
        The blended windows (B, C, H, W), values in [0, 1]; outside the outline those of ``target``.

    Raises:
        ValueError: If ``blend`` or ``gradients`` is unknown.

    Example:
        >>> import torch
        >>> target, source = torch.full((1, 3, 32, 32), 0.7), torch.full((1, 3, 32, 32), 0.2)
        >>> level = 10 - (torch.arange(32.0) - 15.5).abs().view(1, 1, 1, 32).expand(1, 1, 32, 32)
        >>> [round(float(blend_windows(target, source, level, blend)[0, 0, 16, 16]), 3) for blend in BLENDS]
        [0.7, 0.2, 0.2]
    """
    check_choice("blend", blend, BLENDS)
    check_choice("gradients", gradients, GRADIENTS)
    if blend == "hard":
        return torch.where(level > 0, source, target)
    if blend == "soft":
        middle = level.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
        share = _smooth_step(level / (SOFT_EDGE * middle)).to(target.dtype)
        return torch.lerp(target, source, share)
    # Half precision is too coarse for an equation that is solved step by step.
    wide = torch.promote_types(target.dtype, torch.float32)
    return _poisson(target.to(wide), source.to(wide), level, gradients).to(target.dtype)


def _poisson(target: torch.Tensor, source: torch.Tensor, level: torch.Tensor, gradients: str) -> torch.Tensor:
    """Blend as :func:`blend_windows` does, in float32 at least."""
    if gradients == "mixed":
        return (target + _mixed(target, source, level > 0)).clamp_(0, 1)
    difference = target - source
    seam = (level.amax(dim=(2, 3), keepdim=True) / 2).clamp(1, SEAM)
    membrane = _membrane(difference, level, seam)
    share = (level / seam).clamp_(0, 1).to(target.dtype)
    # target + share * (source + membrane - target)
    return torch.addcmul(target, membrane.sub_(difference), share).clamp_(0, 1)


def _smooth_step(share: torch.Tensor) -> torch.Tensor:
    """Rise from 0 to 1 without a corner at either end."""
    share = share.clamp(0, 1)
    return share.square() * (3 - 2 * share)


def _membrane(difference: torch.Tensor, level: torch.Tensor, seam: torch.Tensor) -> torch.Tensor:
    """Continue the difference (B, C, H, W) along the inner side of the edge into the patch, smoothly."""
    height, width = difference.shape[-2:]
    outside = level <= seam
    along = (outside & (level > seam - 1)).to(difference.dtype)
    weights = along.add_(outside.to(along.dtype), alpha=_FAINT)
    cells = _cells(weights)
    membrane = solve_poisson(_cells(difference * weights) / cells.clamp(min=_FAINT / STRIDE**3), cells > 0)
    enlarged = F.interpolate(membrane, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return enlarged[..., :height, :width]


def _cells(values: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(values, STRIDE, ceil_mode=True, count_include_pad=False)


def _mixed(target: torch.Tensor, source: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """What mixed gradients add to the target (B, C, H, W); 0 outside the outline."""
    divergence = torch.zeros_like(target)
    for dim in (2, 3):
        ours, theirs = target.diff(dim=dim), source.diff(dim=dim)
        size = target.shape[dim]
        first, second = inside.narrow(dim, 0, size - 1), inside.narrow(dim, 1, size - 1)
        # Between a pixel inside and one outside nothing is known of the source.
        stronger = (theirs.abs() > ours.abs()) & first & second
        gained = torch.where(stronger, theirs - ours, 0)
        divergence.narrow(dim, 0, size - 1).add_(gained)
        divergence.narrow(dim, 1, size - 1).sub_(gained)
    # Gradients of single pixels take longer than a smooth membrane.
    return solve_poisson(torch.zeros_like(target), ~inside, divergence, 2 * SWEEPS)
