# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Raw scores and maps of any anomalib model: before its post-processor normalises and clamps them."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from anomalib.data import InferenceBatch
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor

from anomalib_ssl.augmentations.pixels import to_unit
from anomalib_ssl.training.images.transforms import preprocessed

BATCH = 8
"""Images scored at once."""


class Scored(NamedTuple):
    """What a model says of images.

    Args:
        scores: Raw scores (N,).
        maps: Raw anomaly maps (h, w), one for each image; None of a model without maps.
    """

    scores: npt.NDArray[np.float64]
    maps: list[torch.Tensor] | None


def score(model: AnomalibModule, images: Sequence[torch.Tensor]) -> Scored:
    """Score images as ``anomalib predict`` does, but raw: in evaluation mode and full precision.

    Args:
        model: A trained model.
        images: Images (3, H, W), uint8, of any sizes.

    Raises:
        ValueError: If the model gives neither scores nor maps, or a score is not finite.
    """
    scores: list[float] = []
    maps: list[torch.Tensor] | None = []
    mode: Any = getattr(model, "scoring_mode", nullcontext)
    model.eval()
    with mode(), torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
        for batch in _batches(model, images):
            output = model.model(batch)
            found: Any = getattr(output, "pred_score", None)
            heat: Any = getattr(output, "anomaly_map", None)
            if not isinstance(output, InferenceBatch) or (found is None and heat is None):
                msg = f"model: {type(model).__name__} gives no scores of images."
                raise ValueError(msg)
            # As anomalib's post-processor does where there is no score.
            found = heat.amax(dim=(-2, -1)) if found is None else found
            scores += found.double().flatten().tolist()
            maps = None if maps is None or heat is None else maps + list(heat.float().cpu().flatten(0, -3))
    values = np.array(scores)
    if not np.isfinite(values).all():
        msg = (
            f"model: {type(model).__name__} gives scores that are not finite, to {(~np.isfinite(values)).sum()} "
            f"of {len(values)} images: its training has failed, or the checkpoint is incomplete."
        )
        raise ValueError(msg)
    return Scored(values, maps)


def own_threshold(model: AnomalibModule) -> float | None:
    """Give the raw score above which anomalib's post-processor calls an image defective; None if it calls none so.

    It compares normalised scores with 1 - sensitivity; raw ones, whatever its threshold, where it does not normalise.
    """
    post: Any = model.post_processor
    if not isinstance(post, PostProcessor) or not post.enable_thresholding:
        return None
    low, high, value = (float(number) for number in (post.image_min, post.image_max, post.image_threshold))
    if not post.enable_normalization or not math.isfinite(low + high):
        return 1 - float(post.image_sensitivity)
    middle = value if math.isfinite(value) else (low + high) / 2
    return middle + (0.5 - float(post.image_sensitivity)) * (high - low)


def _batches(model: AnomalibModule, images: Sequence[torch.Tensor]) -> Any:
    """Pre-process images, and batch those of one size."""
    batch: list[torch.Tensor] = []
    for image in images:
        ready = preprocessed(model, to_unit(image).unsqueeze(0).to(model.device))
        if batch and (len(batch) == BATCH or batch[0].shape != ready.shape):
            yield torch.cat(batch)
            batch = []
        batch.append(ready)
    if batch:
        yield torch.cat(batch)
