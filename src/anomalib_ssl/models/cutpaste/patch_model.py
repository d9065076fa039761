# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at patch level: a density of the features of every window, and a score for every pixel."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_choice, check_flag, check_number, check_whole
from anomalib_ssl.models.components import Backbone, Dilation, dilated, find_dilations, probing
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import (
    Exposure,
    GaussianDensity,
    LocatedGaussianDensity,
    Standardizer,
    as_rows,
    density_map,
    gaussian_upsample,
    grid_size,
    map_windows,
    pool_windows,
)
from anomalib_ssl.scoring.choice import moments_of

DENSE = ("windows", "convolutional")
FIT_IMAGES = 8
"""Images whose dense features are held at once while the density is fitted."""
WINDOW_CHUNK = 1024
"""Largest number of windows that pass through the network at once."""


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
        window_size: Side of a window in pixels.
        stride: Distance between windows in pixels.
        dense: How features of windows are computed. ``windows`` passes each through the network by itself, as the
            paper does. ``convolutional`` passes the whole image, with dilated convolutions in place of late strides,
            and averages the features over each window: many times faster, but a window sees its surroundings.
        per_location: Whether each location has a density of its own, for objects that lie alike in every image.
        upsample_sigma: Standard deviation of the upsampling kernel in pixels.
        **network: Further arguments of :class:`CutPasteNetwork`.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        backbone: str = "resnet18",
        window_size: int = 32,
        stride: int = 4,
        dense: Literal["windows", "convolutional"] = "windows",
        per_location: bool = False,
        upsample_sigma: float = 10.0,
        **network: Any,
    ) -> None:
        check_choice("dense", dense, DENSE)
        check_number("upsample_sigma", upsample_sigma, 1e-3)
        check_whole("window_size", window_size, 1)
        check_whole("stride", stride, 1, window_size)
        check_flag("per_location", per_location)
        grid = grid_size(input_size, window_size, stride)
        super().__init__(backbone, **network)
        self.window_size = window_size
        self.stride = stride
        self.upsample_sigma = upsample_sigma
        self.dilations = self._find_dilations() if dense == "convolutional" else None
        num_features = self.backbone.num_scored_features
        self.density: GaussianDensity | LocatedGaussianDensity = (
            LocatedGaussianDensity(num_features, grid, min(100, num_features))
            if per_location
            else GaussianDensity(num_features)
        )
        self.score_scale, self.map_scale = Standardizer(), Standardizer()
        self.exposure = Exposure()

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        scores, maps = self._scores_and_maps(self.exposure(images))
        return InferenceBatch(pred_score=self.score_scale(scores).asinh(), anomaly_map=self.map_scale(maps).asinh())

    def _scores_and_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Densities of the worst window (B,) and of the pixels (B, 1, H, W)."""
        scores = self.score_windows(images)
        height, width = images.shape[-2:]
        maps = gaussian_upsample(scores, (height, width), self.window_size, self.stride, self.upsample_sigma)
        return scores.amax(dim=(1, 2, 3)), maps

    def fit(self, images: Iterable[torch.Tensor], held_out: Iterable[torch.Tensor] = ()) -> None:
        """Fit the density of the features of all windows, a few images at a time and without keeping them.

        Scores and maps are then brought to the scale of :class:`~anomalib_ssl.scoring.Scorer`.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through twice.
            held_out: Clean images that were not trained on, likewise.

        Raises:
            ValueError: If there are fewer than 2 windows, or 2 images for densities of their own.
        """

        def features() -> Iterator[torch.Tensor]:
            for batch in images:
                for part in batch.split(FIT_IMAGES):
                    yield self.window_features(part)

        # A fit that breaks off shall not leave the scales of another density.
        for scale in (self.score_scale, self.map_scale):
            scale.forget()
        with probing(self):
            if isinstance(self.density, LocatedGaussianDensity):
                self.density.fit(features())
            else:
                self.density.fit(as_rows(part) for part in features())
            known = list(held_out)
            scores: list[torch.Tensor] = []

            def maps() -> Iterator[torch.Tensor]:
                for batch in known or images:
                    numbers, shown = self._scores_and_maps(batch)
                    scores.append(numbers)
                    yield shown

            # One batch after the other: maps of all images need not be held at once.
            self.map_scale.fit(moments_of(maps()))
            self.score_scale.fit(moments_of(scores))

    def score_windows(self, images: torch.Tensor) -> torch.Tensor:
        """Score all windows of images (B, 3, H, W) in [0, 1]: shape (B, 1, h, w)."""
        features = self.window_features(images)
        if isinstance(self.density, LocatedGaussianDensity):
            return self.density(features)
        return density_map(self.density, features)

    def window_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the features of all windows of images (B, 3, H, W) in [0, 1]: shape (B, D, h, w)."""
        if self.dilations is None:
            # An exported graph has no loop over chunks.
            chunk = None if torch.compiler.is_exporting() else WINDOW_CHUNK
            return map_windows(images, self.pooled_features, self.window_size, self.stride, chunk)
        with dilated(self.backbone, self.dilations):
            features = self.backbone.scored(images)
        return pool_windows(features, images.shape[-2:], self.window_size, self.stride)

    def _find_dilations(self) -> dict[str, Dilation]:
        if self.stride & (self.stride - 1) or self.window_size % self.stride:
            msg = (
                "dense='convolutional' needs a stride that is a power of two and divides "
                f"window_size={self.window_size}, got stride={self.stride}."
            )
            raise ValueError(msg)
        return find_dilations(self.backbone, self.stride, Backbone.scored)
