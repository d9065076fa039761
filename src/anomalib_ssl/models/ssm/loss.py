# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The loss of SSM."""

from typing import NamedTuple

import torch
from torch import nn

from anomalib_ssl.losses import gradient_pyramid, gradient_similarity_loss, ssim_map
from anomalib_ssl.models.ssm.masking import compose

WEIGHTS = {"l2": 10.0, "ssim": 1.0, "gms": 1.0, "mask": 1.0}
"""Weights of the terms: those of the authors' code, but 10 in place of 1 for the squared error, because with that
restorations start far too bright (docs/results/ssm.md)."""


class SSMLossTerms(NamedTuple):
    """The loss of SSM and what it consists of: scalars, the terms not yet weighted.

    Attributes:
        total: Weighted sum of the terms.
        l2: Mean squared error of the restored image.
        ssim: 1 - structural similarity of the restored image.
        gms: 1 - multi-scale gradient magnitude similarity of the restored image.
        mask: Mean squared error of the restored masks, summed over the masks of an image.
    """

    total: torch.Tensor
    l2: torch.Tensor
    ssim: torch.Tensor
    gms: torch.Tensor
    mask: torch.Tensor


class SSMLoss(nn.Module):
    """Compare restored images and masks with the originals, by the terms of SSM's code.

    Huang et al., IEEE TMM 2022; the paper's figure 1 shows a loss of the image and one of the mask.

    The image terms see one composite image, each pixel taken from the restoration in which it was hidden.

    Example:
        >>> import torch
        >>> from anomalib_ssl.models.ssm.masking import random_partition
        >>> images, masks = torch.zeros(2, 3, 16, 16), random_partition((16, 16), cell=4)
        >>> terms = SSMLoss()(images, torch.ones(3, 2, 3, 16, 16), masks.expand(-1, 2, -1, -1, -1), masks)
        >>> terms.l2, terms.mask
        (tensor(1.), tensor(0.))
    """

    def forward(
        self, images: torch.Tensor, restored: torch.Tensor, restored_masks: torch.Tensor, masks: torch.Tensor
    ) -> SSMLossTerms:
        """Compute the loss in float32, also under autocast.

        Args:
            images: Original images (B, 3, H, W), values in [0, 1].
            restored: Restored images (n, B, 3, H, W), one for each of n masks.
            restored_masks: Restored masks (n, B, 1, H, W).
            masks: The masks (n, 1, 1, H, W), the same for all images.

        Returns:
            The loss and its terms.
        """
        with torch.autocast(images.device.type, enabled=False):
            images, masks = images.float(), masks.float()
            composite = compose(images, restored.float(), masks)
            terms = {
                "l2": (composite - images).square().mean(),
                "ssim": 1 - ssim_map(composite, images).mean(),
                "gms": gradient_similarity_loss(gradient_pyramid(composite), gradient_pyramid(images)),
                "mask": (restored_masks.float() - masks).square().mean(dim=(1, 2, 3, 4)).sum(),
            }
            total = torch.stack([weight * terms[name] for name, weight in WEIGHTS.items()]).sum()
        return SSMLossTerms(total, **terms)
