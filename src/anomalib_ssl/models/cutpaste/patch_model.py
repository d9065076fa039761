# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste at patch level: trained on crops, and able to score every window of an image."""

from typing import Any, Literal

import torch

from anomalib_ssl.checks import check_choice, check_flag, check_whole
from anomalib_ssl.models.components import (
    Backbone,
    Dilation,
    dilated,
    feature_evidence,
    feature_scorer,
    find_dilations,
)
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.scoring import Evidence, WindowMap, map_windows, pool_windows

WINDOWS = "windows"
"""Name of the published map, and of its evidence."""

DENSE = ("windows", "convolutional")
WINDOW_CHUNK = 1024
"""Largest number of windows that pass through the network at once."""


class CutPastePatchModel(CutPasteNetwork):
    """The patch model of CutPaste (Li et al., CVPR 2021, section 4.2 and appendix A.5).

    The paper's map is ``windows``, Gaussian upsampling of a density of the features of all windows, and its score
    ``windows_max``, that of the worst window; see :func:`~anomalib_ssl.models.components.feature_scorer` for the
    others, of which come the defaults.

    From the paper: dense scoring with a stride of 4, windows of 32 pixels (appendix A.5; section 4.2 says 64), one
    density for all locations or one for each, Gaussian upsampling with the window's size. This package's choices: its
    width, the normalisation by overlap, the projection to 100 dimensions for densities of their own, and the
    convolutional way.

    Args:
        input_size: Height and width of the images in pixels.
        backbone: Name of a timm network with a spatial feature map.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        window_size: Side of a window in pixels.
        stride: Distance between windows in pixels.
        dense: How features of windows are computed. ``windows`` passes each through the network by itself, as the
            paper does. ``convolutional`` passes the whole image, with dilated convolutions in place of late strides,
            and averages the features over each window: many times faster, but a window sees its surroundings.
        per_location: Whether each location has a density of its own, for objects that lie alike in every image.
        **network: Further arguments of :class:`CutPasteNetwork`.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        input_size: tuple[int, int],
        backbone: str = "resnet18",
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        window_size: int = 32,
        stride: int = 4,
        dense: Literal["windows", "convolutional"] = "windows",
        per_location: bool = False,
        **network: Any,
    ) -> None:
        check_choice("dense", dense, DENSE)
        check_whole("window_size", window_size, 1)
        check_whole("stride", stride, 1, window_size)
        check_flag("per_location", per_location)
        super().__init__(backbone, **network)
        self.window_size = window_size
        self.stride = stride
        self.dilations = self._find_dilations() if dense == "convolutional" else None
        num_features = self.backbone.num_scored_features
        own = {WINDOWS: WindowMap(WINDOWS, num_features, input_size, window_size, stride, per_location)}
        self.scorer = feature_scorer(self.backbone, input_size, score, heat_map, own)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W) in [0, 1], and of their windows."""
        others = names - {WINDOWS}
        evidence = feature_evidence(self.backbone, images, others) if others else {}
        return {**evidence, WINDOWS: self.window_features(images)} if WINDOWS in names else evidence

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
