# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM as a torch model: restores masked images in training, scores images by refinement in evaluation."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.models.ssm.masking import scaled_cells
from anomalib_ssl.models.ssm.network import ConditionalAutoencoder
from anomalib_ssl.models.ssm.refinement import ProgressiveRefinement, RefinementPass
from anomalib_ssl.scoring import Fitted


class SSMModel(Fitted):
    """The model of SSM (Huang et al., IEEE TMM 2022; https://arxiv.org/abs/2205.06568).

    In training mode it restores masked images and their masks. In evaluation mode it scores whole images by progressive
    mask refinement; the restored masks take no part. There is nothing to estimate from normal images: :meth:`fit` only
    takes note that the network is trained, so that one of random weights refuses to score.

    Args:
        size: Height H and width W of the images in pixels: multiples of the network's stride (16 with five widths), of
            every cell size and of 8.
        widths: Channels of the network's stages; see :class:`~anomalib_ssl.models.ssm.network.ConditionalAutoencoder`.
        cell_sizes: Sides of the hidden cells in pixels of an image whose shorter side is 256, one for each scale.
        **refinement: Further arguments of :class:`~anomalib_ssl.models.ssm.refinement.ProgressiveRefinement`.

    Attributes:
        cells: Sides of the hidden cells in pixels of the images.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = SSMModel((32, 32), widths=(4, 8, 8), cell_sizes=(32, 64)).eval()
        >>> model.fit([torch.rand(2, 3, 32, 32)])
        >>> with torch.no_grad():
        ...     scores = model(torch.rand(2, 3, 32, 32))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 32, 32]))
    """

    def __init__(
        self,
        size: tuple[int, int] = (256, 256),
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        cell_sizes: Sequence[int] = (4, 8, 16),
        **refinement: Any,
    ) -> None:
        super().__init__()
        self.network = ConditionalAutoencoder(widths)
        check_sides(size, self.network.stride)
        self.cells = scaled_cells(cell_sizes, size)
        self.refinement = ProgressiveRefinement(size, self.cells, **refinement)

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
            NotFittedError: If images are scored before training.
            ValueError: If images are not of the model's size, or masks are missing in training mode.
        """
        self.refinement.check_images(images)
        if not self.training:
            self.require_fitted()
            anomaly_map = self.refinement(images, self.network.restore)
            return InferenceBatch(pred_score=anomaly_map.amax(dim=(1, 2, 3)), anomaly_map=anomaly_map)
        if masks is None:
            msg = "masks are needed in training mode."
            raise ValueError(msg)
        restored: tuple[torch.Tensor, torch.Tensor] = self.network(images, masks)
        return restored

    @torch.no_grad()
    def refine(self, images: torch.Tensor, count: int | None = None) -> list[RefinementPass]:
        """Record the refinement pass by pass, to be looked at; in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            count: Number of passes, by default and at most those of the model.

        Returns:
            What happened in each pass; the last one's ``anomaly_map`` is the model's.

        Raises:
            NotFittedError: If the model is not trained.
            ValueError: If ``count`` is outside its limits, or images are of another size.
        """
        self.require_fitted()
        return list(self.refinement.passes(images, self.network.restore, count))

    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Take note that the network is trained, and on how many clean images (B, 3, H, W).

        Raises:
            ValueError: If there are none, or training has diverged.
        """
        self.forget()
        count = sum(map(len, images))
        if count == 0:
            msg = "images must hold at least one clean image, got none."
            raise ValueError(msg)
        self._set_fitted(count)


def check_sides(size: tuple[int, int], stride: int) -> None:
    """Raise unless images can be halved as often as the network and the gradient pyramid do.

    Args:
        size: Height and width in pixels.
        stride: The network's stride.

    Raises:
        ValueError: If a side is no multiple of ``stride`` and 8.
    """
    multiple = max(stride, 8)  # Both are powers of two.
    if any(side % multiple for side in size):
        msg = f"image_size must be a multiple of {multiple} pixels in both directions, got {size[0]} x {size[1]}."
        raise ValueError(msg)
