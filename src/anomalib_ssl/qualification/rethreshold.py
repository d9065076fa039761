# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A checkpoint with another threshold, which anomalib then uses wherever the model goes."""

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor

from anomalib_ssl.checkpoints import read_checkpoint
from anomalib_ssl.training.checkpointing import PREFIX, set_post_processor

CONFIGURATION = "anomalib_post_processor_config"


def check_rethreshold(model: AnomalibModule, path: Path) -> None:
    """Raise unless a threshold can be written into the checkpoint of a model.

    Raises:
        ValueError: If the model has no post-processor of anomalib's, or one that does not normalise scores: anomalib
            compares them with 0.5 then, whatever the threshold.
    """
    post = model.post_processor
    if not isinstance(post, PostProcessor) or not hasattr(post, "_image_threshold"):
        msg = f"false_alarms: the model of '{path}' has no post-processor that a threshold could be written into."
        raise ValueError(msg)
    if not post.enable_normalization:
        msg = (
            f"false_alarms: the post-processor of '{path}' does not normalise scores. anomalib compares them with 0.5 "
            f"then, and leaves its threshold out."
        )
        raise ValueError(msg)


def write_rethresholded(
    path: Path, kind: type[AnomalibModule], output: Path, threshold: float, scores: npt.NDArray[np.float64]
) -> None:
    """Copy a checkpoint, with another threshold of image scores in its post-processor.

    The range that scores are normalised by stays as it is; where the checkpoint has none, because it has not been
    validated, that of the given scores is taken. A sensitivity becomes 0.5, which leaves the threshold where it is.

    Args:
        path: The checkpoint.
        kind: Class of its model.
        output: Where to write.
        threshold: Raw score above which an image is called defective.
        scores: Raw scores, for the range.
    """
    saved = read_checkpoint(path, kind)
    values = {"_image_threshold": threshold}
    for name, value in (("image_min", scores.min()), ("image_max", scores.max())):
        if math.isnan(float(saved["state_dict"][f"{PREFIX}{name}"])):
            values[name] = float(value)
    set_post_processor(saved, {name: torch.tensor(value, dtype=torch.float32) for name, value in values.items()})
    saved[CONFIGURATION] = {
        **(saved.get(CONFIGURATION) or {}),
        "image_sensitivity": 0.5,
        "enable_thresholding": True,
    }
    torch.save(saved, output)
