# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How models that restore images corrupt them for training."""

import torch

from anomalib_ssl.augmentations import BlendedPatch, LocalCorruption


def corrupt(images: torch.Tensor, corruption: LocalCorruption, blended: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Corrupt images, a share of them by patches of others blended in instead.

    Args:
        images: Shape (B, 3, H, W), values in [0, 1].
        corruption: What is done to the rest.
        blended: Chance that an image gets blended patches.

    Returns:
        Corrupted images, and masks (B, 1, H, W) that show where.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> images = torch.rand(4, 3, 32, 32)
        >>> corrupted, masks = corrupt(images, LocalCorruption(), blended=0.5)
        >>> torch.equal(torch.where(masks, images, corrupted), images)
        True
    """
    corrupted, masks = corruption(images)
    if not blended:
        return corrupted, masks
    others, other_masks = BlendedPatch()(images)
    chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < blended
    return torch.where(chosen, others, corrupted), torch.where(chosen, other_masks, masks)
