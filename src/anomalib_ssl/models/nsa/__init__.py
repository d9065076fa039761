# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""NSA: Natural Synthetic Anomalies (Schlüter et al., ECCV 2022)."""

from anomalib_ssl.models.nsa.lightning_model import NSA
from anomalib_ssl.models.nsa.network import NSANetwork
from anomalib_ssl.models.nsa.task import Task
from anomalib_ssl.models.nsa.torch_model import NSAModel
from anomalib_ssl.models.nsa.traits import Traits, image_traits

__all__ = ["NSA", "NSAModel", "NSANetwork", "Task", "Traits", "image_traits"]
