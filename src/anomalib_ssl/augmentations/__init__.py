# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Batched self-supervised augmentations in pixel space: any (B, C, H, W) tensor, in [0, 1] or uint8, on any device."""

from anomalib_ssl.augmentations.base import Augmentation, Parameters, PasteAugmentation
from anomalib_ssl.augmentations.blended_patch import BlendedPatch, blend_windows, logistic_labels, object_masks
from anomalib_ssl.augmentations.color_jitter import ColorJitter, color_jitter
from anomalib_ssl.augmentations.corruption import LocalCorruption
from anomalib_ssl.augmentations.cutpaste import CutPaste
from anomalib_ssl.augmentations.cutpaste_scar import CutPasteScar
from anomalib_ssl.augmentations.kornia_augmentation import KorniaAugmentation
from anomalib_ssl.augmentations.local_augmentation import LocalAugmentation, dynamic_weights
from anomalib_ssl.augmentations.pixels import Paste
from anomalib_ssl.augmentations.random_crop import RandomCrop, crop_images
from anomalib_ssl.augmentations.random_shift import RandomShift, shift_images
from anomalib_ssl.augmentations.symmetries import Symmetries, flip_and_turn, rotate_and_shift

__all__ = [
    "Augmentation",
    "BlendedPatch",
    "ColorJitter",
    "CutPaste",
    "CutPasteScar",
    "KorniaAugmentation",
    "LocalAugmentation",
    "LocalCorruption",
    "Parameters",
    "Paste",
    "PasteAugmentation",
    "RandomCrop",
    "RandomShift",
    "Symmetries",
    "blend_windows",
    "color_jitter",
    "crop_images",
    "dynamic_weights",
    "flip_and_turn",
    "logistic_labels",
    "object_masks",
    "rotate_and_shift",
    "shift_images",
]
