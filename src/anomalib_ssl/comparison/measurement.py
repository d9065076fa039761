# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Speed and memory of a model on the device it was tested on."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from anomalib.data import AnomalibDataModule
from anomalib.models import AnomalibModule

from anomalib_ssl.training.images.transforms import preprocessed

SECONDS = 1.0
"""Calls are repeated for at least so long, but not fewer than three times if one takes less."""

LIMIT = 120.0
"""A batch that would take longer than this many seconds, judged by single images, is not measured."""


def throughput(model: AnomalibModule, images: torch.Tensor) -> dict[int, float]:
    """Measure images scored per second, maps included, one by one and all at once.

    In float32, without reading or resizing images and without post-processing: what the network and its scoring take.
    The median over calls after a first one; where a single call takes longer than a second, that call.

    Args:
        model: A fitted model on the device to measure.
        images: Test images as the network sees them (B, C, H, W).

    Returns:
        Images per second by batch size.
    """
    model.eval()
    images = images.to(model.device)
    measured: dict[int, float] = {}
    for size in sorted({1, len(images)}):
        if size > 1 and size / measured[1] > LIMIT:
            break
        with torch.inference_mode(), torch.autocast(model.device.type, enabled=False):
            measured[size] = size / _seconds(lambda batch=images[:size]: model.model(batch), model.device)  # type: ignore[misc]
    return measured


def test_images(model: AnomalibModule, datamodule: AnomalibDataModule, count: int) -> torch.Tensor:
    """Read test images, drawn the same way for every model and repeated where there are fewer.

    Real images, because the time some methods take depends on what they show.

    Returns:
        Images as the network sees them (count, C, H, W).
    """
    data = datamodule.test_data
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0)).tolist()
    images: list[Any] = [data[order[index % len(order)]].image for index in range(count)]
    with torch.inference_mode():
        return torch.cat([preprocessed(model, image.unsqueeze(0).to(model.device)) for image in images])


def num_parameters(model: AnomalibModule) -> int:
    """Count the parameters of the torch model; fitted statistics and memories of features are not among them."""
    network: Any = getattr(model, "model", None)
    counted = network if isinstance(network, torch.nn.Module) else model
    return sum(parameter.numel() for parameter in counted.parameters())


class PeakMemory:
    """Watches the largest memory from its making on.

    Args:
        device: Device whose memory is watched. For the CPU that is the resident memory of this process, everything it
            has loaded included; known on Linux alone.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            try:
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the recorded peak back
                self._reset = True
            except OSError:
                pass

    def mib(self) -> float | None:
        """Read the peak in MiB; None if the system does not tell."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        if not self._reset:
            return None
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next((int(line.split()[1]) / 2**10 for line in lines if line.startswith("VmHWM:")), None)


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    """Time a call: the median after a first one, or the first one if that takes long."""
    first = _timed(call, device)
    if first > SECONDS:
        return first
    times = [_timed(call, device)]
    while len(times) < 3 or sum(times) < SECONDS:
        times.append(_timed(call, device))
    return statistics.median(times)


def _timed(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - start
