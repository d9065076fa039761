# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""One number for an image, from its anomaly map."""

import math

import torch

from anomalib_ssl.checks import check_choice

NUMBERS = ("max", "top", "mean")
"""Names of the ways."""

TOP_SHARE = 0.1
"""Share of the pixels that ``top`` averages, rounded up."""


def image_number(maps: torch.Tensor, number: str) -> torch.Tensor:
    """Reduce each map to one number.

    Args:
        maps: Shape (B, 1, H, W).
        number: ``max``, ``mean``, or ``top`` for the mean of the largest tenth of the pixels.

    Returns:
        Shape (B,).

    Raises:
        ValueError: If ``number`` is unknown.

    Example:
        >>> import torch
        >>> maps = torch.arange(20.0).view(1, 1, 4, 5)
        >>> [float(image_number(maps, number)) for number in NUMBERS]
        [19.0, 18.5, 9.5]
    """
    check_choice("number", number, NUMBERS)
    pixels = maps.flatten(1)
    if number == "max":
        return pixels.amax(dim=1)
    if number == "top":
        pixels = pixels.topk(math.ceil(TOP_SHARE * pixels.shape[1]), dim=1, sorted=False).values
    return pixels.mean(dim=1)
