# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From features to anomaly scores and maps."""

from anomalib_ssl.scoring.gaussian import GaussianDensity, NotFittedError, fit_gaussian, ledoit_wolf_shrinkage
from anomalib_ssl.scoring.maps import gradcam, upsample

__all__ = ["GaussianDensity", "NotFittedError", "fit_gaussian", "gradcam", "ledoit_wolf_shrinkage", "upsample"]
