# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Anomaly scores from what an autoencoder changes in an image."""

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_choice
from anomalib_ssl.models.autoencoder_projection.error_scale import ContrastScale
from anomalib_ssl.models.autoencoder_projection.network import SDCAutoencoder
from anomalib_ssl.models.autoencoder_projection.pixel_statistics import STATISTICS, PixelStatistics
from anomalib_ssl.scoring.box_filter import box_filter

BOX_PASSES = 2
"""How many times maps are averaged over a window."""

SCORES = ("max", "mean", "topk_mean")
"""Names of the ways from a map to an image's score."""

TOPK_SHARE = 0.01
"""Share of the pixels that ``topk_mean`` averages, rounded up to whole pixels."""

NORMALIZATIONS = ("none", "reconstruction", "input")
"""Names of what the expected error is read from."""


class AutoencoderProjectionModel(nn.Module):
    """Autoencoder and reconstruction error (Bauer et al., Mathematics 2024, 12 (24), 3988).

    In training mode the model gives reconstructions. In evaluation mode it gives anomaly maps and scores::

        squared error, mean over channels -> box filter -> [divided by the normal error at this contrast] -> map
        map -> [compared with the normal map] -> score

    That detection is by the reconstruction error of one forward pass is the paper's. The formula, the smoothing and the
    score are this package's choices, and so are the two optional steps; neither text nor tables of the paper were
    available.

    Args:
        image_size: Height and width in pixels of the images, multiples of 8.
        error_normalization: What the normal error at a place is read from; see :class:`ContrastScale`. ``none``
            leaves errors as they are. ``reconstruction`` takes the contrast of what should be there, ``input`` that of
            what is there, which a defect adds to. Either also takes that of the whole input.
        map_statistics: ``none``, ``mean`` or ``standardize``; see :class:`PixelStatistics`.
        statistics_for: What is compared with the normal map: the ``score`` only, or the ``map`` as well.
        score: An image's score: the map's ``max``, ``mean``, or ``topk_mean`` for the mean of its largest values.
        **autoencoder: Arguments of :class:`SDCAutoencoder`.

    Attributes:
        box_size: Side in pixels of the averaging window: 11 at 256 pixels, 21 at 512.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = AutoencoderProjectionModel((64, 64), widths=(4, 8, 16), sdc_layers=1, sdc_width=4).eval()
        >>> predictions = model(torch.rand(2, 3, 64, 64))
        >>> predictions.anomaly_map.shape, predictions.pred_score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        error_normalization: Literal["none", "reconstruction", "input"] = "none",
        map_statistics: Literal["none", "mean", "standardize"] = "none",
        statistics_for: Literal["score", "map"] = "score",
        score: Literal["max", "mean", "topk_mean"] = "max",
        **autoencoder: Any,
    ) -> None:
        super().__init__()
        check_choice("error_normalization", error_normalization, NORMALIZATIONS)
        check_choice("map_statistics", map_statistics, ("none", *STATISTICS))
        check_choice("statistics_for", statistics_for, ("score", "map"))
        check_choice("score", score, SCORES)
        self.box_size = default_box_size(image_size)
        self.contrast_source = error_normalization
        self.statistics_for = statistics_for
        self.score = score
        self.autoencoder = SDCAutoencoder(image_size, **autoencoder)
        # Where errors are not smoothed, a variance still needs neighbours.
        self.error_scale = None if error_normalization == "none" else ContrastScale(max(self.box_size, 3), BOX_PASSES)
        self.statistics = (
            None if map_statistics == "none" else PixelStatistics(map_statistics, image_size, self.box_size, BOX_PASSES)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Reconstruct images in training mode, score them in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Reconstructions (B, 3, H, W) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the statistics that the score needs were fitted.
        """
        reconstruction: torch.Tensor = self.autoencoder(images)
        return reconstruction if self.training else self.compare(images, reconstruction)

    def compare(self, images: torch.Tensor, reconstruction: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) by their reconstructions: ``pred_score`` (B,), ``anomaly_map`` (B, 1, H, W)."""
        maps = compared = self._scaled_error(images, reconstruction)
        if self.statistics is not None:
            compared = self.statistics(maps)
        scores = image_score(compared, self.score)
        return InferenceBatch(pred_score=scores, anomaly_map=maps if self.statistics_for == "score" else compared)

    def error_map(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        """Smoothed squared error of reconstructions (B, 3, H, W), shape (B, 1, H, W); it needs no statistics."""
        return box_filter(squared_error(images, reconstruction), self.box_size, BOX_PASSES)

    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit what scores are compared with to clean images, in evaluation mode.

        Args:
            images: Clean images in batches (B, 3, H, W), values in [0, 1]. Gone through once for each of contrast scale
                and map statistics, not at all without both.

        Raises:
            ValueError: If there are none, or training has diverged.
        """
        if self.error_scale is not None:
            self.error_scale.fit(
                (self.error_map(batch, reconstruction), self._surroundings(batch, reconstruction), batch)
                for batch, reconstruction in self._reconstructed(images)
            )
        if self.statistics is not None:
            self.statistics.fit(self._scaled_error(*pair) for pair in self._reconstructed(images))

    def _reconstructed(self, images: Iterable[torch.Tensor]) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        return ((batch, self.autoencoder(batch)) for batch in images)

    def _scaled_error(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        maps = self.error_map(images, reconstruction)
        if self.error_scale is None:
            return maps
        scaled: torch.Tensor = self.error_scale(maps, self._surroundings(images, reconstruction), images)
        return scaled

    def _surroundings(self, images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        return images if self.contrast_source == "input" else reconstruction


def squared_error(images: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
    """Squared difference of two batches of images (B, C, H, W), the mean over the channels, shape (B, 1, H, W)."""
    return (images - reconstruction).square().mean(dim=1, keepdim=True)


def image_score(maps: torch.Tensor, score: str = "max") -> torch.Tensor:
    """Reduce each map to one number.

    Args:
        maps: Shape (B, 1, H, W).
        score: ``max``, ``mean``, or ``topk_mean`` for the mean of the largest hundredth of the pixels.

    Returns:
        Shape (B,).
    """
    pixels = maps.flatten(1)
    if score == "max":
        return pixels.amax(dim=1)
    if score == "topk_mean":
        pixels = pixels.topk(math.ceil(TOPK_SHARE * pixels.shape[1]), dim=1, sorted=False).values
    return pixels.mean(dim=1)


def default_box_size(image_size: tuple[int, int]) -> int:
    """The odd number nearest to a 24th of the shorter side, at least 1: 11 at 256 pixels, 21 at 512."""
    return 2 * round((min(image_size) / 24 - 1) / 2) + 1
