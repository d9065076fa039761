# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the autoencoder learns: the clean image from the partly corrupted one."""

import torch
from torch import nn

from anomalib_ssl.checks import check_number


def region_losses(
    reconstruction: torch.Tensor, target: torch.Tensor, masks: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean squared error outside and inside of what was corrupted.

    Args:
        reconstruction: Shape (B, C, H, W).
        target: Clean images, shape (B, C, H, W).
        masks: Where they were corrupted, boolean, shape (B, 1, H, W).

    Returns:
        The errors of the clean and of the masked region, shape (B,) each; 0 for a region without pixels.
    """
    error = (reconstruction - target).square().mean(dim=1, keepdim=True)
    inside = masks.to(error.dtype)

    def mean_over(region: torch.Tensor) -> torch.Tensor:
        return (error * region).sum(dim=(1, 2, 3)) / region.sum(dim=(1, 2, 3)).clamp(min=1)

    return mean_over(1 - inside), mean_over(inside)


class ProjectionLoss(nn.Module):
    """Squared error of the clean region and of the corrupted one, each averaged over its own pixels, and weighted.

    A small corruption counts as much as a large one::

        loss = (1 - masked_weight) * mean error of the clean pixels + masked_weight * mean error of the corrupted pixels

    The paper (Bauer et al., Mathematics 2024, 12 (24), 3988) calls its objective a modified reconstruction error; its
    formula was not available. Two terms, one a region, are in third-party code for an early version, with 0.9 for the
    clean one.

    Args:
        masked_weight: Weight of the corrupted region, in [0, 1]; that of the clean one is the rest. An image without
            such a region contributes nothing there.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> target, masks = torch.zeros(1, 3, 2, 2), torch.tensor([[[[True, False], [False, False]]]])
        >>> reconstruction = torch.where(masks, 1.0, 0.5).expand(1, 3, 2, 2)
        >>> round(float(ProjectionLoss(0.1)(reconstruction, target, masks)), 4)  # 0.9 * 0.25 + 0.1 * 1
        0.325
    """

    def __init__(self, masked_weight: float = 0.1) -> None:
        super().__init__()
        check_number("masked_weight", masked_weight, 0, 1)
        self.masked_weight = masked_weight

    def forward(self, reconstruction: torch.Tensor, target: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Compare reconstructions of corrupted images with the clean ones.

        Args:
            reconstruction: Shape (B, C, H, W).
            target: Clean images, shape (B, C, H, W).
            masks: Where they were corrupted, boolean, shape (B, 1, H, W).

        Returns:
            The mean over the batch, a float32 scalar.
        """
        with torch.autocast(reconstruction.device.type, enabled=False):
            clean, masked = region_losses(reconstruction.float(), target.float(), masks)
            return ((1 - self.masked_weight) * clean + self.masked_weight * masked).mean()
