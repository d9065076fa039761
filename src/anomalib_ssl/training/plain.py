# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Hyper-parameters as plain data, which anomalib's checkpoints demand."""

from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from anomalib_ssl.augmentations.base import to_mapping


def plain(value: Any) -> Any:
    """Turn an augmentation, or another dataclass, into a mapping, paths into text, ``get_model``'s lists into lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, Path):
        return str(value)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
