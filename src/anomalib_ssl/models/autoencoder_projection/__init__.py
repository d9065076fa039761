# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Autoencoder projection: Self-Supervised Autoencoders for Visual Anomaly Detection (Bauer et al., 2024)."""

from anomalib_ssl.models.autoencoder_projection.lightning_model import AutoencoderProjection
from anomalib_ssl.models.autoencoder_projection.network import SDCAutoencoder
from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel

__all__ = ["AutoencoderProjection", "AutoencoderProjectionModel", "SDCAutoencoder"]
