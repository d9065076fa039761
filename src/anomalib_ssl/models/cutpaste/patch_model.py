# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at patch level: a density of the features of every window, and a score for every pixel."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.components import ScoredLayer
from anomalib_ssl.models.components.dilation import dilated_twin
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import (
    GaussianDensity,
    LocatedGaussianDensity,
    as_rows,
    density_map,
    gaussian_upsample,
    grid_size,
    map_windows,
    pool_windows,
)

DENSE = ("windows", "convolutional")
FIT_IMAGES = 8
"""Images whose dense features are held at once while the density is fitted."""


class CutPastePatchModel(CutPasteNetwork):
    """The patch model of CutPaste (Li et al., CVPR 2021, section 4.2 and appendix A.5).

    Trained on crops, it scores all windows of an image. The score of the image is that of its worst window; the map is
    Gaussian upsampling of the windows' scores.

    From the paper: dense scoring with a stride of 4, windows of 32 pixels (appendix A.5; section 4.2 says 64), one
    density for all locations or one for each, Gaussian upsampling with the window's size. This package's choices: its
    width, the normalisation by overlap, the projection to 100 dimensions for densities of their own, and the
    convolutional way.

    Args:
        input_size: Height and width of the images in pixels.
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights.
        layer: Feature map that is scored; see :class:`CutPasteNetwork`.
        num_classes: Number of pretext classes.
        head_dims: Widths of the head's layers.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics, also in training.
        patch_size: Side of a window in pixels.
        stride: Distance between windows in pixels.
        dense: How features of windows are computed. ``windows`` passes each through the network by itself, as the
            paper does. ``convolutional`` passes the whole image, with dilated convolutions in place of late strides,
            and averages the features over each window: many times faster, but a window sees its surroundings.
        per_location: Whether each location has a density of its own, for objects that lie alike in every image.
        gde_shrinkage: Covariance estimator of the shared density, ``ridge`` or ``ledoit_wolf``.
        gde_l2norm: Whether features are scaled to unit length before the density.
        upsample_sigma: Standard deviation of the upsampling kernel in pixels.
        normalize_overlap: Whether a pixel gets the mean of the scores of its windows rather than their sum.
        window_chunk: Largest number of windows that pass through the network at once.
        window_precision: ``bfloat16`` computes features under autocast, ``float32`` does not. Densities are always
            computed in float32.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        backbone: str = "resnet18",
        pretrained: bool = False,
        layer: str = "pool",
        num_classes: int = 3,
        head_dims: Sequence[int] = (512, 128),
        freeze_batch_norm: bool = False,
        patch_size: int = 32,
        stride: int = 4,
        dense: Literal["windows", "convolutional"] = "windows",
        per_location: bool = False,
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        gde_l2norm: bool = True,
        upsample_sigma: float = 10.0,
        normalize_overlap: bool = True,
        window_chunk: int = 1024,
        window_precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        check_choice("dense", dense, DENSE)
        check_choice("window_precision", window_precision, ("float32", "bfloat16"))
        check_number("window_chunk", window_chunk, 1)
        check_number("upsample_sigma", upsample_sigma, 1e-3)
        check_number("stride", stride, 1, patch_size)
        grid = grid_size(input_size, patch_size, stride)
        super().__init__(backbone, pretrained, layer, num_classes, head_dims, freeze_batch_norm)
        self.patch_size = patch_size
        self.stride = stride
        self.upsample_sigma = upsample_sigma
        self.normalize_overlap = normalize_overlap
        self.window_chunk = window_chunk
        self.window_precision = window_precision
        # In a tuple, so that its weights are not counted and saved twice.
        self._dense_backbone = (self._make_dense_backbone() if dense == "convolutional" else None,)
        num_features = self.backbone.num_scored_features
        self.density: GaussianDensity | LocatedGaussianDensity = (
            LocatedGaussianDensity(num_features, grid, min(100, num_features), gde_l2norm)
            if per_location
            else GaussianDensity(num_features, gde_shrinkage, gde_l2norm)
        )

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        scores = self.score_windows(images)
        pred_score = scores.amax(dim=(1, 2, 3))
        if not self.localize:
            return InferenceBatch(pred_score=pred_score)
        height, width = images.shape[-2:]
        maps = gaussian_upsample(
            scores, (height, width), self.patch_size, self.stride, self.upsample_sigma, self.normalize_overlap
        )
        return InferenceBatch(pred_score=pred_score, anomaly_map=maps)

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of the features of all windows, a few images at a time and without keeping them.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through twice.

        Raises:
            ValueError: If there are fewer than 2 windows, or 2 images for densities of their own.
        """

        def features() -> Iterator[torch.Tensor]:
            for batch in images:
                for part in batch.split(FIT_IMAGES):
                    yield self.window_features(part)

        if isinstance(self.density, LocatedGaussianDensity):
            self.density.fit(features)
        else:
            self.density.fit_batches(as_rows(part) for part in features())

    def score_windows(self, images: torch.Tensor) -> torch.Tensor:
        """Score all windows of images (B, 3, H, W) in [0, 1]: shape (B, 1, h, w)."""
        features = self.window_features(images)
        if isinstance(self.density, LocatedGaussianDensity):
            return self.density(features)
        return density_map(self.density, features)

    def window_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of all windows of images (B, 3, H, W) in [0, 1]: shape (B, D, h, w)."""
        images = self.normalized(images)
        half = self.window_precision == "bfloat16" and not torch.compiler.is_exporting()
        with torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            (dense_backbone,) = self._dense_backbone
            if dense_backbone is not None:
                features = dense_backbone(images).float()
                return pool_windows(features, images.shape[-2:], self.patch_size, self.stride)
            # An exported graph has no loop over chunks.
            chunk = None if torch.compiler.is_exporting() else self.window_chunk
            return map_windows(images, self._pool, self.patch_size, self.stride, chunk).float()

    def _pool(self, windows: torch.Tensor) -> torch.Tensor:
        return self.backbone.scored(windows).mean(dim=(2, 3))

    def _make_dense_backbone(self) -> nn.Module:
        if self.stride & (self.stride - 1) or self.patch_size % self.stride:
            msg = (
                "dense='convolutional' needs a stride that is a power of two and divides "
                f"patch_size={self.patch_size}, got stride={self.stride}."
            )
            raise ValueError(msg)
        return dilated_twin(ScoredLayer(self.backbone), self.stride)
