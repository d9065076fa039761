# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local augmentation: several changes of one rectangle, weighted by how much each changes it."""

from anomalib_ssl.augmentations.local_augmentation.local_augmentation import LocalAugmentation, LocalChanges
from anomalib_ssl.augmentations.local_augmentation.weights import dynamic_weights

__all__ = ["LocalAugmentation", "LocalChanges", "dynamic_weights"]
