# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Patches of another image, blended in."""

from anomalib_ssl.augmentations.blended_patch.blended_patch import BlendedPatch
from anomalib_ssl.augmentations.blended_patch.blending import blend_windows
from anomalib_ssl.augmentations.blended_patch.labels import logistic_labels
from anomalib_ssl.augmentations.blended_patch.objects import object_masks

__all__ = ["BlendedPatch", "blend_windows", "logistic_labels", "object_masks"]
