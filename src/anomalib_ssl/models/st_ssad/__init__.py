# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD: End-to-End Augmentation Hyperparameter Tuning for Self-Supervised Anomaly Detection (Yoo et al., 2023)."""

from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.lightning_model import STSSAD
from anomalib_ssl.models.st_ssad.torch_model import STSSADModel
from anomalib_ssl.models.st_ssad.validation_loss import dsv_criterion, validation_loss

__all__ = ["STSSAD", "STSSADModel", "TunableAugmentation", "dsv_criterion", "validation_loss"]
