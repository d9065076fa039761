# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Self-supervised anomaly detection models for anomalib.

Installing this package is enough for anomalib to know its models by name: ``anomalib train --model CutPaste``,
``anomalib.models.get_model("cutpaste")``. Where Python's start-up files do not run, ``import anomalib_ssl`` does it.

This module runs at every start of Python, so it imports nothing but the import hook; everything else is loaded on first
use.

Example:
    >>> import anomalib_ssl
    >>> anomalib_ssl.__version__.count(".")
    2
"""

from anomalib_ssl.startup import TYPE_CHECKING
from anomalib_ssl.startup import install as _install

if TYPE_CHECKING:
    from anomalib_ssl.models import (
        NSA,
        SSM,
        STSSAD,
        AutoencoderProjection,
        CutPaste,
        CutPastePatch,
        DynamicLocalAugmentation,
    )
    from anomalib_ssl.registration import register

__version__ = "0.1.0"

__all__ = [
    "NSA",
    "SSM",
    "STSSAD",
    "AutoencoderProjection",
    "CutPaste",
    "CutPastePatch",
    "DynamicLocalAugmentation",
    "__version__",
    "register",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415  # not needed, so not paid for, at the start of Python

    module = "registration" if name == "register" else "models"
    value = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return value


def __dir__() -> list[str]:
    """List the lazy names too."""
    return sorted({*globals(), *__all__})


_install(origin="import anomalib_ssl")
