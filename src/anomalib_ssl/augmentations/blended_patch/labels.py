# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Soft labels: how much of a defect each pixel is."""

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.losses import median_filter_3x3

LEAST_CHANGE = 1 / 255
"""A pixel that changed by less is sound."""

MASK_FILTER = 5
"""Side in pixels of the median filter that rids the changed pixels of specks."""


def logistic_labels(
    before: torch.Tensor, after: torch.Tensor, masks: torch.Tensor, steepness: float = 1 / 6, midpoint: float = 15.0
) -> torch.Tensor:
    """Label pixels by how much they changed: ``sigmoid(steepness * (change - midpoint))``, and 0 where they did not.

    Schlüter et al., "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization", ECCV 2022
    (https://arxiv.org/abs/2109.15222). The change is the mean over channels of the absolute difference, median
    filtered: here by 3 by 3 pixels twice, which is much faster than the authors' larger filter. Other constants are
    those of the authors' code.

    Args:
        before: Images (B, C, H, W), values in [0, 1].
        after: The same with defects.
        masks: Boolean, shape (B, 1, H, W): where there may be defects. Elsewhere labels are 0.
        steepness: Slope per grey level of 0 to 255.
        midpoint: Change in grey levels of 0 to 255 that is labelled one half.

    Returns:
        Labels (B, 1, H, W) in [0, 1].

    Example:
        >>> import torch
        >>> before, after = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
        >>> after[..., 4:12, 4:12] = 15 / 255
        >>> labels = logistic_labels(before, after, torch.ones(1, 1, 16, 16, dtype=torch.bool))
        >>> round(float(labels[0, 0, 8, 8]), 3), float(labels[0, 0, 0, 0])
        (0.5, 0.0)
    """
    change = (after - before).abs().mean(dim=1, keepdim=True)
    changed = box_median((change > LEAST_CHANGE).to(change.dtype), MASK_FILTER) > 0
    smooth = median_filter_3x3(median_filter_3x3(change))
    return torch.sigmoid(steepness * (255 * smooth - midpoint)) * (changed & masks)


def box_median(masks: torch.Tensor, side: int) -> torch.Tensor:
    """Median filter of masks (B, 1, H, W) of zeros and ones: what most pixels of a window are."""
    share = F.avg_pool2d(masks, side, stride=1, padding=side // 2, count_include_pad=False)
    return (share > 0.5).to(masks.dtype)
