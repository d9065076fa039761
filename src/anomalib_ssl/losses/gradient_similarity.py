# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Multi-scale gradient magnitude similarity of two images, as a loss and as a map.

Gradient magnitude similarity: Xue et al., "Gradient Magnitude Similarity Deviation", IEEE TIP 2014, equation 4
(https://arxiv.org/abs/1308.3052). Four scales and the median filter are those of RIAD (Zavrtanik et al., Pattern
Recognition 2021) and of the code of SSM (Huang et al., IEEE TMM 2022); that the border is replicated is this package's
choice: theirs loses a pixel on every side of every level, and its map is stretched over the image.

An image is compared in two steps, so that one whose gradients are needed more than once is filtered only once:
:func:`gradient_pyramid`, then :func:`gradient_similarity_loss` or :func:`gradient_distance_map`.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F  # noqa: N812

STABILITY = 0.0026
"""Constant of the similarity for images in [0, 1], from the code of SSM."""


LEVELS = 4
"""Number of scales, each of half the resolution of the one before."""


def median_filter_3x3(images: torch.Tensor) -> torch.Tensor:
    """Replace each pixel by the median of its 3x3 neighbourhood, the border replicated.

    Each column of three is sorted once, for all three windows that it is part of; the median of a window is then the
    median of the largest minimum, the median middle and the smallest maximum of its columns. Only minimum and maximum
    are used, which every runtime has; ``torch.median`` cannot be exported.

    Args:
        images: Shape (B, C, H, W).

    Returns:
        Shape (B, C, H, W), each value one of those in its window.

    Example:
        >>> import torch
        >>> image = torch.zeros(1, 1, 3, 3)
        >>> image[0, 0, 1, 1] = 1.0  # an isolated bright pixel
        >>> median_filter_3x3(image).max()
        tensor(0.)
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    top, middle, bottom = padded[..., :-2, :], padded[..., 1:-1, :], padded[..., 2:, :]
    low, high = torch.minimum(top, middle), torch.maximum(top, middle)
    columns = torch.minimum(low, bottom), _median(low, high, bottom), torch.maximum(high, bottom)
    (low0, low1, low2), (mid0, mid1, mid2), (high0, high1, high2) = map(_neighbours, columns)
    return _median(
        *_ordered(torch.maximum(torch.maximum(low0, low1), low2), _median(*_ordered(mid0, mid1), mid2)),
        torch.minimum(torch.minimum(high0, high1), high2),
    )


def gradient_magnitude(images: torch.Tensor) -> torch.Tensor:
    """Compute the magnitude of the Prewitt gradient, kernels divided by 3, the border replicated.

    Args:
        images: Shape (B, C, H, W).

    Returns:
        Shape (B, C, H, W), at least 1e-6, and so in float32 at least.
    """
    images = images.to(torch.promote_types(images.dtype, torch.float32))
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]) / 3
    columns = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
    across = rows[..., 2:] - rows[..., :-2]
    down = columns[..., 2:, :] - columns[..., :-2, :]
    # The slope of the square root would be infinite where the image is flat.
    return (across.square() + down.square() + 1e-12).sqrt()


def gradient_pyramid(images: torch.Tensor) -> list[torch.Tensor]:
    """Compute the gradient magnitudes of images at four scales, in float32 also under autocast.

    Colours are averaged, each level is filtered by a 3x3 median, and the next one has half the resolution.

    Args:
        images: Shape (B, C, H, W), values in [0, 1]. H and W must be multiples of 8.

    Returns:
        Four tensors of shape (B, 1, H / 2^l, W / 2^l).

    Raises:
        ValueError: If the size is no such multiple.
    """
    factor, (height, width) = 2 ** (LEVELS - 1), images.shape[-2:]
    if height % factor or width % factor:
        msg = f"images must have sides that are multiples of {factor}, got {height} x {width}."
        raise ValueError(msg)
    with torch.autocast(images.device.type, enabled=False):
        gray = images.float().mean(dim=1, keepdim=True)
        pyramid = [gradient_magnitude(median_filter_3x3(gray))]
        for _ in range(LEVELS - 1):
            gray = F.avg_pool2d(gray, 2)
            pyramid.append(gradient_magnitude(median_filter_3x3(gray)))
    return pyramid


def gradient_magnitude_similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Compare gradient magnitudes (Xue et al., equation 4): 1 where equal, towards 0 where only one has a gradient.

    Args:
        first: Gradient magnitudes of any shape.
        second: Gradient magnitudes of the same shape.

    Returns:
        The similarity, in (0, 1] up to rounding.
    """
    return (2 * first * second + STABILITY) / (first.square() + second.square() + STABILITY)


def gradient_similarity_loss(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """Average what two images lack in gradient magnitude similarity over pixels and scales.

    Args:
        first: Pyramid of :func:`gradient_pyramid`.
        second: Pyramid of other images of the same shape.

    Returns:
        A scalar in [0, 1), 0 for equal images.

    Example:
        >>> import torch
        >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> pyramid = gradient_pyramid(images)
        >>> gradient_similarity_loss(pyramid, gradient_pyramid(images))
        tensor(0.)
    """
    losses = [1 - gradient_magnitude_similarity(*level).mean() for level in zip(first, second, strict=True)]
    return torch.stack(losses).mean()


def gradient_distance_map(first: Sequence[torch.Tensor], second: Sequence[torch.Tensor]) -> torch.Tensor:
    """Map what two images lack in gradient magnitude similarity, averaged over scales.

    Args:
        first: Pyramid of :func:`gradient_pyramid`, of images of shape (B, C, H, W).
        second: Pyramid of other images of the same shape.

    Returns:
        Shape (B, 1, H, W), in [0, 1) up to rounding; coarse levels are enlarged bilinearly.
    """
    size = first[0].shape[-2:]
    distances = [1 - gradient_magnitude_similarity(*level) for level in zip(first, second, strict=True)]
    enlarged = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in distances[1:]]
    return torch.stack([distances[0], *enlarged]).mean(dim=0)


def _ordered(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.minimum(first, second), torch.maximum(first, second)


def _median(low: torch.Tensor, high: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The median of three, of which two are in order."""
    return torch.maximum(low, torch.minimum(high, other))


def _neighbours(columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The left, middle and right one of the columns of each window."""
    return columns[..., :-2], columns[..., 1:-1], columns[..., 2:]
