# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Network parts that several models share."""

from anomalib_ssl.models.components.backbone import Backbone, ScoredLayer
from anomalib_ssl.models.components.dilation import dilated_twin

__all__ = ["Backbone", "ScoredLayer", "dilated_twin"]
