# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Where the object is, for products that lie before a plain background."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.blended_patch.labels import box_median

FILTER = 7 / 256
"""Side of the median filter as a share of the image's shorter side: 7 pixels at 256."""


def object_masks(images: torch.Tensor, background: float, threshold: float) -> torch.Tensor:
    """Find the pixels whose brightness is not that of the background.

    As in the authors' code of Schlüter et al., "Natural Synthetic Anomalies", ECCV 2022
    (https://arxiv.org/abs/2109.15222); the filter's side at other sizes than 256 is this package's choice.

    Args:
        images: Shape (B, C, H, W), values in [0, 1].
        background: Grey level of the background, in [0, 1].
        threshold: Difference from it, a mean over channels, from which on a pixel belongs to the object.

    Returns:
        Boolean masks (B, 1, H, W).

    Example:
        >>> import torch
        >>> images = torch.ones(1, 3, 32, 32)
        >>> images[..., 8:24, 8:24] = 0.3
        >>> int(object_masks(images, 1.0, 0.2).sum())
        256
    """
    different = (images.mean(dim=1, keepdim=True) - background).abs() > threshold
    side = 2 * (round(FILTER * min(images.shape[-2:])) // 2) + 1
    return box_median(different.to(images.dtype), side) > 0


def area_sums(masks: torch.Tensor) -> torch.Tensor:
    """Count the masked pixels above and left of each corner of a pixel.

    Args:
        masks: Boolean, shape (B, 1, H, W).

    Returns:
        Counts (B, H + 1, W + 1).
    """
    # Whole numbers: a sum of floats over a large image would be rounded.
    return F.pad(masks.squeeze(1).int().cumsum(1).cumsum(2), (1, 0, 1, 0))


def coverage(
    sums: torch.Tensor,
    image: torch.Tensor,
    top: torch.Tensor,
    left: torch.Tensor,
    height: torch.Tensor,
    width: torch.Tensor,
) -> torch.Tensor:
    """Share of rectangles that is masked.

    Args:
        sums: What :func:`area_sums` returned.
        image: Number of the image that rectangles lie in, shape (R, 1).
        top: First row of each rectangle, shape (R, T).
        left: First column, likewise.
        height: Height in pixels, shape (R, 1); rectangles lie inside of the image.
        width: Width in pixels, likewise.

    Returns:
        Shares (R, T) in [0, 1].
    """
    bottom, right = top + height, left + width
    inside = sums[image, bottom, right] - sums[image, top, right] - sums[image, bottom, left] + sums[image, top, left]
    return inside / (height * width)
