# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Localisation maps."""

from collections.abc import Callable

import torch
from kornia.filters import gaussian_blur2d
from torch.nn import functional as F  # noqa: N812

SMOOTHING = 1 / 64
"""Standard deviation of the smoothing of maps, as a share of the image's shorter side."""


def as_rows(features: torch.Tensor) -> torch.Tensor:
    """Put the features of all locations one below the other: from (B, D, h, w) to (B * h * w, D)."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def density_map(density: Callable[[torch.Tensor], torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    """Score every location of feature maps by one density that all share (Li et al., CVPR 2021, appendix A.5).

    Args:
        density: Maps features (N, D) to scores (N,), as :class:`~anomalib_ssl.scoring.GaussianDensity` does.
        features: Shape (B, D, h, w).

    Returns:
        Scores of shape (B, 1, h, w).
    """
    return density(as_rows(features)).reshape(-1, 1, *features.shape[-2:])


def upsample(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Enlarge maps (B, 1, h, w) bilinearly to a height and width in pixels: shape (B, 1, H, W).

    Each place is drawn in the middle of the pixels that it stands for. Backbones with odd kernels see about half a
    stride nearer to the top left, 4 pixels at a stride of 8; to draw them there changed what was measured by about a
    point of AUPRO, up or down.
    """
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def smooth(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur maps (B, 1, H, W) by a Gaussian with a standard deviation in pixels; 0 leaves them as they are."""
    if sigma <= 0:
        return maps
    # Four standard deviations on either side, but never more than reflection at the border allows.
    radius = min(round(4 * sigma), *(side - 1 for side in maps.shape[-2:]))
    return gaussian_blur2d(maps, (2 * radius + 1, 2 * radius + 1), (sigma, sigma))
