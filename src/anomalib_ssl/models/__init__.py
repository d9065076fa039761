# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Self-supervised anomaly detection models for anomalib.

Each model is loaded when it is asked for (PEP 562): one that cannot be imported, or that gives way to a model of
anomalib's, does not take the others with it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib_ssl.models.autoencoder_projection import AutoencoderProjection
    from anomalib_ssl.models.cutpaste import CutPaste, CutPastePatch
    from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentation
    from anomalib_ssl.models.nsa import NSA
    from anomalib_ssl.models.ssm import SSM
    from anomalib_ssl.models.st_ssad import STSSAD

__all__ = ["NSA", "SSM", "STSSAD", "AutoencoderProjection", "CutPaste", "CutPastePatch", "DynamicLocalAugmentation"]

_LAZY = {
    "AutoencoderProjection": "anomalib_ssl.models.autoencoder_projection",
    "CutPaste": "anomalib_ssl.models.cutpaste",
    "CutPastePatch": "anomalib_ssl.models.cutpaste",
    "DynamicLocalAugmentation": "anomalib_ssl.models.dynamic_local_augmentation",
    "NSA": "anomalib_ssl.models.nsa",
    "SSM": "anomalib_ssl.models.ssm",
    "STSSAD": "anomalib_ssl.models.st_ssad",
}


def __getattr__(name: str) -> object:
    """Import a model the first time it is asked for."""
    if name not in _LAZY:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = globals()[name] = getattr(import_module(_LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted({*globals(), *__all__})
