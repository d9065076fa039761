# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM as a torch model: restores masked images in training, scores images by refinement in evaluation."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.ssm.network import ConditionalAutoencoder
from anomalib_ssl.models.ssm.refinement import ProgressiveRefinement, RefinementPass


class SSMModel(nn.Module):
    """The model of SSM (Huang et al., IEEE TMM 2022; https://arxiv.org/abs/2205.06568).

    In training mode it restores masked images and their masks. In evaluation mode it scores whole images by progressive
    mask refinement; the restored masks take no part.

    Args:
        size: Height H and width W of the images in pixels: multiples of the network's stride (16 with five widths), of
            every cell size and of 8.
        cells: Sides of the hidden cells in pixels, one for each scale.
        widths: Channels of the network's stages; see :class:`~anomalib_ssl.models.ssm.network.ConditionalAutoencoder`.
        refinement: Further arguments of :class:`~anomalib_ssl.models.ssm.refinement.ProgressiveRefinement`.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = SSMModel((32, 32), cells=(4, 8), widths=(4, 8, 8)).eval()
        >>> with torch.no_grad():
        ...     scores = model(torch.rand(2, 3, 32, 32))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        size: tuple[int, int] = (256, 256),
        cells: Sequence[int] = (4, 8, 16),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        **refinement: Any,
    ) -> None:
        super().__init__()
        self.network = ConditionalAutoencoder(widths)
        check_size(size, self.network.stride)
        self.refinement = ProgressiveRefinement(size, cells, **refinement)

    def forward(
        self, images: torch.Tensor, masks: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Restore masked images in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1]; in training mode with hidden pixels 0.
            masks: Shape (B, 1, H, W), 1 where pixels are visible and 0 where they are hidden. In training mode only.

        Returns:
            Restored images (B, 3, H, W) and masks (B, 1, H, W) in training mode; else ``pred_score`` (B,), the largest
            value of the map, and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before a threshold to be calibrated was.
            ValueError: If images are not of the model's size, or masks are missing in training mode.
        """
        self.refinement.check_images(images)
        if not self.training:
            return self.score_images(images)
        if masks is None:
            msg = "masks are needed in training mode."
            raise ValueError(msg)
        restored: tuple[torch.Tensor, torch.Tensor] = self.network(images, masks)
        return restored

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        anomaly_map = self.refinement(images, self.network.restore)
        return InferenceBatch(pred_score=anomaly_map.amax(dim=(1, 2, 3)), anomaly_map=anomaly_map)

    @torch.no_grad()
    def refine(self, images: torch.Tensor, passes: int | None = None) -> list[RefinementPass]:
        """Record the refinement pass by pass, to be looked at; in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            passes: Number of passes, by default and at most those of the model.

        Returns:
            What happened in each pass; the last one's ``anomaly_map`` is the model's.

        Raises:
            NotFittedError: If a threshold to be calibrated has not been.
            ValueError: If ``passes`` is outside its limits, or images are of another size.
        """
        return list(self.refinement.passes(images, self.network.restore, passes))

    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Calibrate the threshold, if it is to be, on clean training images in batches (B, 3, H, W) in [0, 1].

        In evaluation mode.

        Raises:
            ValueError: If it is to be and there are no images.
        """
        self.refinement.calibrate(images, self.network.restore)


def check_size(size: tuple[int, int], stride: int) -> None:
    """Raise unless images can be halved as often as the network and the gradient pyramid do.

    Args:
        size: Height and width in pixels.
        stride: The network's stride.

    Raises:
        ValueError: If a side is below 1 or no multiple of ``stride`` and 8.
    """
    check_number("image_size", min(size), 1)
    multiple = max(stride, 8)  # Both are powers of two.
    if any(side % multiple for side in size):
        msg = f"image_size must be a multiple of {multiple} pixels in both directions, got {size[0]} x {size[1]}."
        raise ValueError(msg)
