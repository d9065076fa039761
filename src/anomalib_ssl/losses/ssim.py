# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Structural similarity of two images."""

import torch

C1 = 0.01**2
C2 = 0.03**2

RADIUS, SIGMA = 5, 1.5
"""Reach and standard deviation in pixels of the Gaussian window, which has 11x11 pixels."""


def ssim_map(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compare images by structural similarity, in float32 also under autocast.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, equation 13,
    for values in [0, 1]. Beyond the border images are black, as in the code of SSM (Huang et al., IEEE TMM 2022);
    Kornia and torchmetrics reflect them there, and agree with this map elsewhere.

    The Gaussian window is separable, so that local means are a product with one banded matrix from the left and one
    from the right: on a CPU half the time of Kornia's convolutions, and unlike those nothing makes the host wait for
    an accelerator.

    Args:
        first: Shape (B, C, H, W), values in [0, 1].
        second: Images of the same shape.

    Returns:
        Shape (B, C, H, W), in [-1, 1] up to rounding; 1 where images are equal.

    Example:
        >>> import torch
        >>> image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> bool(ssim_map(image, image).mean().isclose(torch.tensor(1.0)))
        True
    """
    with torch.autocast(first.device.type, enabled=False):
        first, second = first.float(), second.float()
        rows, columns = (_window(side, first.device) for side in first.shape[-2:])
        products = torch.stack([first, second, first * first, second * second, first * second])
        mean1, mean2, square1, square2, product = rows @ products @ columns
        luminance = (2 * mean1 * mean2 + C1) / (mean1.square() + mean2.square() + C1)
        variances = square1 - mean1.square() + square2 - mean2.square()
        return luminance * (2 * (product - mean1 * mean2) + C2) / (variances + C2)


def _window(side: int, device: torch.device) -> torch.Tensor:
    """The weights of each pixel of one axis in the mean around each other: a symmetric matrix (side, side)."""
    offsets = torch.arange(-RADIUS, RADIUS + 1, device=device, dtype=torch.float32)
    pixels = torch.arange(side, device=device, dtype=torch.float32)
    distance = pixels.unsqueeze(1) - pixels
    weights = (-0.5 * (distance / SIGMA).square()).exp() * (distance.abs() <= RADIUS)
    return weights / (-0.5 * (offsets / SIGMA).square()).exp().sum()
