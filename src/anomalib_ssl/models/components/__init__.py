# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Network parts that several models share."""

from anomalib_ssl.models.components.backbone import Backbone
from anomalib_ssl.models.components.dilation import Dilation, dilated, find_dilations
from anomalib_ssl.models.components.head import build_head

__all__ = ["Backbone", "Dilation", "build_head", "dilated", "find_dilations"]
