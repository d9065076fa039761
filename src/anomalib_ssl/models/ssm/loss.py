# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The loss of SSM."""

from typing import NamedTuple

import torch
from torch import nn

from anomalib_ssl.checks import check_number
from anomalib_ssl.losses import gradient_pyramid, gradient_similarity_loss, ssim_map
from anomalib_ssl.models.ssm.masking import compose


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
    """Compare restored images and masks with the originals, by the terms and weights of SSM's code.

    Huang et al., IEEE TMM 2022; the paper's figure 1 shows a loss of the image and one of the mask.

    The image terms see one composite image, each pixel taken from the restoration in which it was hidden. The two
    similarities have the weight 1, as in the code.

    Args:
        l2_weight: Weight of the squared error; 1 in the code.
        mask_weight: Weight of the squared error of the masks.

    Raises:
        ValueError: If a weight is negative.

    Example:
        >>> import torch
        >>> from anomalib_ssl.models.ssm.masking import random_partition
        >>> images, masks = torch.zeros(2, 3, 16, 16), random_partition((16, 16), cell=4)
        >>> terms = SSMLoss()(images, torch.ones(3, 2, 3, 16, 16), masks.expand(-1, 2, -1, -1, -1), masks)
        >>> terms.l2, terms.mask
        (tensor(1.), tensor(0.))
    """

    def __init__(self, l2_weight: float = 10.0, mask_weight: float = 1.0) -> None:
        super().__init__()
        check_number("l2_weight", l2_weight, 0)
        check_number("mask_weight", mask_weight, 0)
        self.weights = {"l2": l2_weight, "ssim": 1.0, "gms": 1.0, "mask": mask_weight}

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
            total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return SSMLossTerms(total, **terms)
