# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Losses and distances between images."""

from anomalib_ssl.losses.gradient_similarity import (
    gradient_distance_map,
    gradient_magnitude,
    gradient_magnitude_similarity,
    gradient_pyramid,
    gradient_similarity_loss,
    median_filter_3x3,
)
from anomalib_ssl.losses.ssim import ssim_map

__all__ = [
    "gradient_distance_map",
    "gradient_magnitude",
    "gradient_magnitude_similarity",
    "gradient_pyramid",
    "gradient_similarity_loss",
    "median_filter_3x3",
    "ssim_map",
]
