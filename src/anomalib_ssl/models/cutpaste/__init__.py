# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste: Self-Supervised Learning for Anomaly Detection and Localization (Li et al., CVPR 2021)."""

from anomalib_ssl.models.cutpaste.ensemble import CutPasteEnsemble
from anomalib_ssl.models.cutpaste.lightning_model import CutPaste, CutPastePatch
from anomalib_ssl.models.cutpaste.patch_model import CutPastePatchModel
from anomalib_ssl.models.cutpaste.torch_model import CutPasteModel

__all__ = ["CutPaste", "CutPasteEnsemble", "CutPasteModel", "CutPastePatch", "CutPastePatchModel"]
