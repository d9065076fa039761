# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How well maps point at planted defects."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from anomalib.metrics.aupro import _AUPRO
from torch.nn import functional as F  # noqa: N812
from torchmetrics.functional.classification import binary_auroc

from anomalib_ssl.comparison.evaluation import ordered


@dataclass(frozen=True)
class Located:
    """How well defects were located.

    Args:
        count: Images that were looked at.
        auroc: Area under the receiver operating characteristic of all their pixels.
        aupro: Area under the per-region overlap, up to a false positive rate of 0.3.
    """

    count: int
    auroc: float
    aupro: float


def locate(maps: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> Located:
    """Compare maps with masks, in the resolution of the maps.

    Args:
        maps: Raw anomaly maps (h, w); those of another size than the first one are resized.
        masks: Masks (H, W), boolean, of any sizes.

    Example:
        >>> mask = torch.zeros(32, 32, dtype=torch.bool)
        >>> mask[4:12, 4:12] = True
        >>> locate([mask.float()], [mask])
        Located(count=1, auroc=1.0, aupro=1.0)
    """
    size = maps[0].shape
    heat = torch.stack([one if one.shape == size else _resized(one, size) for one in maps])
    # No defect is lost on the way to a smaller map.
    regions = torch.stack([F.adaptive_max_pool2d(mask[None].float(), heat.shape[-2:])[0] for mask in masks])
    auroc = binary_auroc(ordered(heat).flatten(), regions.flatten().long())
    overlap = _AUPRO()
    overlap.update(heat, regions.long())
    return Located(len(heat), float(auroc), float(overlap.compute()))


def _resized(heat: torch.Tensor, size: torch.Size) -> torch.Tensor:
    return F.interpolate(heat[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
