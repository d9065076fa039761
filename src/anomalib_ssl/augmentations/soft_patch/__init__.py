# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Augmentations that are differentiable in their own parameters: patches with a soft edge, and rotation."""

from anomalib_ssl.augmentations.soft_patch.mask import soft_patch_mask
from anomalib_ssl.augmentations.soft_patch.rotation import Rotation
from anomalib_ssl.augmentations.soft_patch.soft_patch import SoftPatch

__all__ = ["Rotation", "SoftPatch", "soft_patch_mask"]
