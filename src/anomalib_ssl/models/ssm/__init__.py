# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM: Self-Supervised Masking for Unsupervised Anomaly Detection and Localization (Huang et al., IEEE TMM 2022)."""

from anomalib_ssl.models.ssm.lightning_model import SSM
from anomalib_ssl.models.ssm.refinement import RefinementPass
from anomalib_ssl.models.ssm.torch_model import SSMModel

__all__ = ["SSM", "RefinementPass", "SSMModel"]
