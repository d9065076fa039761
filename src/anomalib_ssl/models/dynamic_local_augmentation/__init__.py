# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Contrast against dynamically weighted local augmentations (Yoa et al., IEEE Access 2021)."""

from anomalib_ssl.models.dynamic_local_augmentation.lightning_model import DynamicLocalAugmentation
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews

__all__ = ["DynamicLocalAugmentation", "DynamicLocalAugmentationModel", "GlobalViews"]
