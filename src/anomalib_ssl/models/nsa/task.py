# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the network of NSA learns: from images to images with defects and their soft labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from anomalib_ssl.augmentations import BlendedPatch, RandomShift, Symmetries, logistic_labels
from anomalib_ssl.models.nsa.traits import Traits
from anomalib_ssl.plain_data import from_mapping

SHIFT = RandomShift(max_shift=3)
"""The authors cut 224 pixels out of the middle 230 of objects, and 256 out of 264 of textures, at random places. Shifts
leave images at their size, so that they are trained on and scored alike."""

LEAST_SIDE = 0.06
"""Least side of a patch where it is cut out, as a share of the image's; the authors' for nearly all categories."""

SHRINK = 0.5
"""The authors' limits are of half a side where a patch is cut out, and of the whole one after it was resized."""


@dataclass(frozen=True)
class Task:
    """Blend defects into normal images, and label each pixel by how much that changed it.

    Args:
        symmetries: What is done to all images first, target and source alike.
        patch: How patches are blended in.
        label: Steepness and midpoint of the soft label; see :func:`~anomalib_ssl.augmentations.logistic_labels`.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> blended, masks, labels = Task(Symmetries(), BlendedPatch(), (1 / 6, 15.0))(torch.rand(2, 3, 64, 64))
        >>> blended.shape, labels.shape, float(labels[~masks].max())
        (torch.Size([2, 3, 64, 64]), torch.Size([2, 1, 64, 64]), 0.0)
    """

    symmetries: Symmetries
    patch: BlendedPatch
    label: tuple[float, float]

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Move images and blend defects into them; random numbers come from torch's global generators.

        Args:
            images: Normal images (B, 3, H, W), values in [0, 1].

        Returns:
            Images with defects (B, 3, H, W); boolean masks of the patches, and labels in [0, 1], (B, 1, H, W) each.
        """
        images, _ = self.symmetries(images)
        images, _ = SHIFT(images)
        return self.blend(images)

    def blend(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Do the same to images that are not moved."""
        blended, masks = self.patch(images)
        return blended, masks, logistic_labels(images, blended, masks, *self.label)


def task_of(
    traits: Traits,
    patch: Mapping[str, Any] | None = None,
    symmetries: Mapping[str, Any] | None = None,
    label: tuple[float, float] | None = None,
) -> Task:
    """Choose the task for a product, after the authors' settings for the categories of MVTec AD.

    Textures are flipped, and get up to 4 patches, resized by 0.5 to 2, with mixed gradients and anywhere. Objects get
    up to 3 patches, resized by 0.7 to 1.3, with the source's gradients and on the object where there is a background;
    where they do not lie alike, they are rotated by up to 5 degrees.

    Args:
        traits: What is known of the product.
        patch: Arguments of :class:`~anomalib_ssl.augmentations.BlendedPatch` that are given.
        symmetries: Arguments of :class:`~anomalib_ssl.augmentations.Symmetries` that are given.
        label: Steepness and midpoint, if given.

    Returns:
        The task.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is outside its limits.
    """
    if traits.texture:
        blend = BlendedPatch(patches=4, resize=(0.5, 2.0), gradients="mixed", shrink=SHRINK)
        move = Symmetries(flips=("vertical",))
    else:
        blend = BlendedPatch(background=traits.background, threshold=traits.threshold, shrink=SHRINK)
        if {"background": traits.background, **(patch or {})}["background"] is not None:
            # As large as an object, where there shall be one.
            blend = replace(blend, height=(LEAST_SIDE, traits.height), width=(LEAST_SIDE, traits.width))
        move = Symmetries(rotation=0.0 if traits.aligned else 5.0)
    return Task(
        from_mapping(move, symmetries or {}, "symmetries"),
        from_mapping(blend, patch or {}, "patch"),
        label or (traits.steepness, traits.midpoint),
    )
