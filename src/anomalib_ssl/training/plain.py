# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Hyper-parameters and what else a model knows as plain data, which anomalib's checkpoints demand."""

import json
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from anomalib_ssl.augmentations.base import to_mapping


def plain(value: Any) -> Any:
    """Turn an augmentation, or another dataclass, into a mapping, paths into text, ``get_model``'s lists into lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, Path):
        return str(value)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def packed(value: Any) -> torch.Tensor:
    """Put numbers, text, lists and mappings into bytes: whoever goes through a state dict takes all for tensors."""
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def unpacked(state: torch.Tensor) -> Any:
    """Take out what :func:`packed` was given; tuples have become lists."""
    return json.loads(bytes(state.tolist()))
