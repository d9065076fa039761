# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM as a torch model: restores masked images in training, scores images by refinement in evaluation."""

from collections.abc import Sequence
from typing import Any

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_sides
from anomalib_ssl.models.components import RestoringModel
from anomalib_ssl.models.components.feature_scoring import FEATURES
from anomalib_ssl.models.components.restoring_model import DEFAULTS
from anomalib_ssl.models.ssm.masking import scaled_cells
from anomalib_ssl.models.ssm.network import ConditionalAutoencoder
from anomalib_ssl.models.ssm.refinement import ProgressiveRefinement, RefinementPass
from anomalib_ssl.scoring import Evidence

REFINED = "refined"
"""Name of the map of progressive mask refinement, and of its evidence."""


class SSMModel(RestoringModel):
    """The model of SSM (Huang et al., IEEE TMM 2022; https://arxiv.org/abs/2205.06568).

    In training mode it restores masked images and their masks. In evaluation mode it scores whole images by how their
    hidden parts are restored; the restored masks take no part. ``refined`` errors are the paper's, of progressive mask
    refinement. The others are those of the first pass alone, see :class:`~anomalib_ssl.scoring.RestorationErrors`, its
    restorations averaged over cell sizes: this package's choice.

    Args:
        size: Height H and width W of the images in pixels: multiples of the network's stride (16 with five widths), of
            every cell size and of 8.
        widths: Channels of the network's stages; see :class:`~anomalib_ssl.models.ssm.network.ConditionalAutoencoder`.
        cell_sizes: Sides of the hidden cells in pixels of an image whose shorter side is 256, one for each scale.
        patch_size: Side in pixels of the patches whose pixels are channels, likewise.
        score: Candidate for scores, or ``auto``; see :meth:`score_by`.
        heat_map: Candidate for maps, or ``auto``.
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
        patch_size: int = 1,
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **refinement: Any,
    ) -> None:
        super().__init__()
        self.network = ConditionalAutoencoder(widths, patch_size)
        # Both are powers of two. The pyramid of gradients halves images three times, whatever the network does.
        check_sides("image_size", size, max(self.network.stride, 8))
        self.cells = scaled_cells(cell_sizes, size)
        self.refinement = ProgressiveRefinement(size, self.cells, **refinement)
        self.score_by(size, score, heat_map, REFINED)

    def forward(
        self, images: torch.Tensor, masks: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | InferenceBatch:
        """Restore masked images in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1]; in training mode with hidden pixels 0.
            masks: Shape (B, 1, H, W), 1 where pixels are visible and 0 where they are hidden. In training mode only.

        Returns:
            Restored images (B, 3, H, W) and masks (B, 1, H, W) in training mode; else ``pred_score`` (B,) and
            ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before training.
            ValueError: If images are not of the model's size, or masks are missing in training mode.
        """
        self.refinement.check_images(images)
        if not self.training:
            return self.score_images(images)
        if masks is None:
            msg = "masks are needed in training mode."
            raise ValueError(msg)
        return self.network(images, masks)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Restore and encode images (B, 3, H, W) in [0, 1]; refined only where that is wanted."""
        if REFINED not in names:
            return super().evidence(images, names)
        first, *others = self.refinement.passes(images, self.network.restore)
        stages = self.encode(images) if FEATURES in names else None
        evidence = self.compare(images, names, first.restored.mean(dim=0), stages)
        return {REFINED: [first, *others][-1].anomaly_map, **evidence}

    def restore(self, images: torch.Tensor) -> torch.Tensor:
        """Restore every pixel of images (B, 3, H, W) in [0, 1] where it is hidden, and average over cell sizes."""
        return self.refinement.restored(images, self.network.restore).mean(dim=0)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute the middle stages of images (B, 3, H, W) in [0, 1] of which nothing is hidden."""
        stages = self.network.encode(images, count=4)
        return [stage for stage in stages if 2 <= images.shape[-1] // stage.shape[-1] <= 8]

    @torch.no_grad()
    def refine(self, images: torch.Tensor) -> list[RefinementPass]:
        """Record the refinement pass by pass, to be looked at; in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            What happened in each pass; the last one's ``anomaly_map`` is the model's.

        Raises:
            NotFittedError: If the model is not trained.
            ValueError: If images are of another size.
        """
        self.scorer.require_fitted()
        return list(self.refinement.passes(self.exposure(images), self.network.restore))
