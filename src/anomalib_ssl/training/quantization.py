# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Networks of exported OpenVINO graphs that compute in eight bits."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from anomalib.data import AnomalibDataModule, AnomalibDataset, Batch
from lightning_utilities.core.imports import module_available
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import resize

if TYPE_CHECKING:
    import numpy as np
    import torch
    from openvino import Node

WIDE = 16
"""Convolutions of fewer channels are no network's: they smooth maps, or average errors over windows."""

IMAGES = 300
"""Most training images that are looked at for the range of what convolutions are given."""


def calibration_data(datamodule: AnomalibDataModule | None) -> AnomalibDataset:
    """The training images of a datamodule, once it is sure that :func:`quantize` can work.

    Raises:
        ModuleNotFoundError: If NNCF is not installed.
        ValueError: If there is no datamodule.
    """
    if not module_available("nncf"):
        msg = "compression_type INT8_PTQ needs NNCF: pip install anomalib-ssl[export]."
        raise ModuleNotFoundError(msg)
    if datamodule is None:
        msg = "datamodule must be given with compression_type INT8_PTQ, got None: its training images set the ranges."
        raise ValueError(msg)
    datamodule.setup("fit")
    return datamodule.train_data


def quantize(path: Path, data: AnomalibDataset) -> None:
    """Let the convolutions of a network compute in 8 bits, and leave all else as it is.

    anomalib has the whole graph quantized. Here its end compares an image with normal ones: small distances, their
    squares, and the largest of them. In 256 steps every image had the same score (docs/results/speed.md).

    Args:
        path: Graph to read, and to write anew.
        data: Images that set the ranges of what convolutions are given.
    """
    import nncf  # noqa: PLC0415
    import openvino  # noqa: PLC0415

    # It tells of each operation that is left as it is.
    nncf.set_log_level(logging.WARNING)
    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # its file is about to be replaced
    graph = core.read_model(path)
    shape = graph.input(0).get_partial_shape()
    side = [shape[2].get_length(), shape[3].get_length()] if shape[2].is_static and shape[3].is_static else None

    def read(batch: Batch) -> "np.ndarray[Any, Any]":
        images = cast("torch.Tensor", batch.image)
        return (images if side is None else resize(images, side, antialias=True)).numpy()

    left = [node.get_friendly_name() for node in graph.get_ordered_ops() if not _is_wide(node)]
    quantized = nncf.quantize(
        graph,
        nncf.Dataset(DataLoader(data, batch_size=1, collate_fn=data.collate_fn), read),
        subset_size=min(len(data), IMAGES),
        ignored_scope=nncf.IgnoredScope(names=left, validate=False),
    )
    openvino.save_model(quantized, path, compress_to_fp16=False)


def _is_wide(node: "Node") -> bool:
    """Whether a node of a graph is a convolution from many channels to many."""
    if node.get_type_name() != "Convolution":
        return False
    filters = node.input(1).get_partial_shape()
    return bool(filters.is_static and min(filters[0].get_length(), filters[1].get_length()) >= WIDE)
