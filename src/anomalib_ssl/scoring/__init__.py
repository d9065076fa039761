# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From features to anomaly scores and maps."""

from anomalib_ssl.scoring.fitted import Fitted, NotFittedError
from anomalib_ssl.scoring.gaussian import GaussianDensity, fit_gaussian
from anomalib_ssl.scoring.located_gaussian import LocatedGaussianDensity
from anomalib_ssl.scoring.maps import as_rows, density_map, gradcam, upsample
from anomalib_ssl.scoring.moments import Moments, ledoit_wolf_shrinkage
from anomalib_ssl.scoring.places import PlaceDistance
from anomalib_ssl.scoring.standardizer import Standardizer
from anomalib_ssl.scoring.upsampling import gaussian_upsample
from anomalib_ssl.scoring.windows import extract_windows, grid_size, map_windows, pool_windows

__all__ = [
    "Fitted",
    "GaussianDensity",
    "LocatedGaussianDensity",
    "Moments",
    "NotFittedError",
    "PlaceDistance",
    "Standardizer",
    "as_rows",
    "density_map",
    "extract_windows",
    "fit_gaussian",
    "gaussian_upsample",
    "gradcam",
    "grid_size",
    "ledoit_wolf_shrinkage",
    "map_windows",
    "pool_windows",
    "upsample",
]
