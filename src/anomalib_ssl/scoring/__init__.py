# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From features to anomaly scores and maps."""

from anomalib_ssl.scoring.candidates import Evidence
from anomalib_ssl.scoring.contrast_scale import ContrastScale
from anomalib_ssl.scoring.exposure import Exposure
from anomalib_ssl.scoring.fitted import Fitted, NotFittedError
from anomalib_ssl.scoring.gaussian import GaussianDensity
from anomalib_ssl.scoring.gradcam import GradCam, gradcam
from anomalib_ssl.scoring.located_gaussian import LocatedGaussianDensity
from anomalib_ssl.scoring.map_part import MapPart
from anomalib_ssl.scoring.maps import as_rows, density_map, smooth, upsample
from anomalib_ssl.scoring.moments import Moments
from anomalib_ssl.scoring.numbers import image_number
from anomalib_ssl.scoring.pixels import Errors, Pixels
from anomalib_ssl.scoring.places import Places, join
from anomalib_ssl.scoring.random_filters import RandomFilters
from anomalib_ssl.scoring.restoration_errors import ERRORS, RestorationErrors, squared_error
from anomalib_ssl.scoring.scorer import Scorer
from anomalib_ssl.scoring.standardizer import Standardizer
from anomalib_ssl.scoring.upsampling import gaussian_upsample
from anomalib_ssl.scoring.window_map import WindowMap
from anomalib_ssl.scoring.windows import extract_windows, grid_size, map_windows, pool_windows

__all__ = [
    "ERRORS",
    "ContrastScale",
    "Errors",
    "Evidence",
    "Exposure",
    "Fitted",
    "GaussianDensity",
    "GradCam",
    "LocatedGaussianDensity",
    "MapPart",
    "Moments",
    "NotFittedError",
    "Pixels",
    "Places",
    "RandomFilters",
    "RestorationErrors",
    "Scorer",
    "Standardizer",
    "WindowMap",
    "as_rows",
    "density_map",
    "extract_windows",
    "gaussian_upsample",
    "gradcam",
    "grid_size",
    "image_number",
    "join",
    "map_windows",
    "pool_windows",
    "smooth",
    "squared_error",
    "upsample",
]
