# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD: Self-Tuning Self-Supervised Image Anomaly Detection (Yoo, Zhao and Akoglu, KDD 2025)."""

from anomalib_ssl.models.st_ssad.lightning_model import STSSAD

__all__ = ["STSSAD"]
