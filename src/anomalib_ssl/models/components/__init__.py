# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Network parts that several models share."""

from anomalib_ssl.models.components.backbone import Backbone
from anomalib_ssl.models.components.dilation import Dilation, dilated, find_dilations
from anomalib_ssl.models.components.feature_scoring import feature_evidence, feature_scorer
from anomalib_ssl.models.components.probing import probing
from anomalib_ssl.models.components.restoring_model import RestoringModel
from anomalib_ssl.models.components.scored_model import ScoredModel

__all__ = [
    "Backbone",
    "Dilation",
    "RestoringModel",
    "ScoredModel",
    "dilated",
    "feature_evidence",
    "feature_scorer",
    "find_dilations",
    "probing",
]
