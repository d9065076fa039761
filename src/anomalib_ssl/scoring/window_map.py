# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Maps of how unlikely the features of each window of an image are."""

import torch

from anomalib_ssl.scoring.gaussian import GaussianDensity
from anomalib_ssl.scoring.located_gaussian import LocatedGaussianDensity
from anomalib_ssl.scoring.map_part import MapPart
from anomalib_ssl.scoring.maps import as_rows, density_map
from anomalib_ssl.scoring.upsampling import gaussian_upsample
from anomalib_ssl.scoring.windows import grid_size

SIGMA = 10.0
"""Standard deviation in pixels of the upsampling, that of FCDD's code for windows of 32; the paper gives none."""

DIMENSIONS = 100
"""Principal directions that densities of places are in: all of a ResNet-18's would take gigabytes."""


class WindowMap(MapPart):
    """Density of the features of windows, upsampled by Gaussians (Li et al., CVPR 2021, appendix A.5).

    Numbers of images are taken from the windows themselves, so that the largest is the score of the worst window
    (figure 1b of the paper).

    Args:
        source: Name of the evidence, features (B, C, h, w) of all windows.
        num_features: Number C of channels.
        size: Height and width of the images in pixels.
        window_size: Side of a window in pixels.
        stride: Distance between windows in pixels.
        per_location: Whether each place has a density of its own.

    Raises:
        ValueError: If no window fits into the images.
    """

    def __init__(
        self,
        source: str,
        num_features: int,
        size: tuple[int, int],
        window_size: int,
        stride: int,
        per_location: bool = False,
    ) -> None:
        super().__init__(source)
        self.window_size = window_size
        self.stride = stride
        grid = grid_size(size, window_size, stride)
        self.density: GaussianDensity | LocatedGaussianDensity = (
            LocatedGaussianDensity(num_features, grid, min(DIMENSIONS, num_features))
            if per_location
            else GaussianDensity(num_features)
        )

    def start(self) -> None:
        """Forget what was fitted."""
        self.forget()
        self.density.start()

    def update(self, evidence: torch.Tensor) -> None:
        """Take features (B, C, h, w) of normal images into account."""
        self.density.update(evidence if isinstance(self.density, LocatedGaussianDensity) else as_rows(evidence))

    def finish(self) -> None:
        """Estimate the density.

        Raises:
            ValueError: If there were fewer than 2 windows, or 2 images for densities of their own; or features are not
                finite.
        """
        self.density.finish()
        self._set_fitted(int(self.density.num_fitted))

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map features (B, C, h, w) to half the squared Mahalanobis distances (B, 1, h, w).

        Raises:
            NotFittedError: If nothing was fitted and no fitted state was loaded.
        """
        self.require_fitted()
        located = isinstance(self.density, LocatedGaussianDensity)
        return self.density(evidence) if located else density_map(self.density, evidence)

    def enlarge(self, maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Leave maps (B, 1, h, w) on the grid of the windows."""
        del size
        return maps

    def smooth(self, enlarged: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Give each pixel the weighted mean of the windows that it lies in, shape (B, 1, H, W)."""
        return gaussian_upsample(enlarged, size, self.window_size, self.stride, SIGMA)
