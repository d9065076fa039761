# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Corruption of image regions by shape, fill and opacity."""

from anomalib_ssl.augmentations.corruption.local_corruption import LocalCorruption

__all__ = ["LocalCorruption"]
