# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How many source images per second become CutPaste's three views: this package's way, and the others'.

Run as ``python benchmarks/augmentation_throughput.py --out result.json``; the method is in benchmarks/README.md.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from competitors.lineup import PER_IMAGE, REFERENCE, Entry, build_lineup
from harness.machine import default_devices
from harness.measure import Timing, measure, synchronizer
from harness.memory import peak_over_output
from harness.photographs import photograph
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from PIL import Image

Task = Literal["pastes", "training", "CutPaste", "CutPasteScar", "RandomShift", "ColorJitter"]

TITLES: dict[Task, str] = {
    "pastes": "Three views: image, CutPaste, CutPaste-Scar",
    "training": "Three views of the shifted and jittered image, as in training",
    "CutPaste": "CutPaste alone",
    "CutPasteScar": "CutPaste-Scar alone",
    "RandomShift": "Shift alone",
    "ColorJitter": "Colour jitter of whole images alone",
}

COLUMNS = (
    Column("name", "competitor"),
    Column("images_per_second", "images/s", ",.0f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x PIL", ".2f"),
    Column("augmented_views", "augmented views", "d"),
    Column("ratio_per_view", "x PIL per view", ".2f"),
    Column("memory", "peak / output", ".2f"),
)


def benchmark(
    batch_sizes: Sequence[int] = (32, 64, 256),
    image_size: int = 256,
    tasks: Sequence[Task] = tuple(TITLES),
    devices: Sequence[str] | None = None,
    workers: int | None = None,
    repeats: int = 7,
    min_seconds: float = 0.2,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time all ways to augment, on all devices.

    Args:
        batch_sizes: Source images per call.
        image_size: Side of the images in pixels.
        tasks: What to measure; everything by default.
        devices: ``cpu``, ``cuda``; what is there by default.
        workers: Worker processes of the PIL way's loader; as many as cores by default, 0 leaves it out.
        repeats: Turns of each competitor.
        min_seconds: Least duration of a turn.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    workers = (os.cpu_count() or 1) if workers is None else workers
    rng = np.random.default_rng(0)
    photographs = [Image.fromarray(photograph(image_size, rng)) for _ in range(PER_IMAGE)]
    tables = []
    for device in devices or default_devices():
        for batch_size in batch_sizes:
            images = [photographs[index % PER_IMAGE] for index in range(batch_size)]
            for task in tasks:
                lineup = build_lineup(task, device, images, workers)
                title = f"{TITLES[task]}: {device}, {batch_size} images of {image_size}x{image_size}"
                tables.append(run(title, lineup, device, repeats, min_seconds))
                show(tables[-1])
    return save("augmentation_throughput", arguments, tables, out, markdown)


def run(title: str, lineup: Sequence[Entry], device: str, repeats: int, min_seconds: float) -> Table:
    """Measure one task and account for every competitor."""
    timings = measure([entry.competitor for entry in lineup], repeats, min_seconds, synchronizer(device))
    rates = {
        entry.competitor.name: entry.images / timing.median
        for entry in lineup
        if isinstance(timing := timings[entry.competitor.name], Timing)
    }
    (reference_views,) = (entry.views for entry in lineup if entry.competitor.name == REFERENCE)
    table = Table(title, COLUMNS)
    for entry in lineup:
        name = entry.competitor.name
        timing = timings[name]
        values: dict[str, Any] = {}
        if isinstance(timing, Timing):
            values = {"images_per_second": rates[name], "ratio": rates[name] / rates[REFERENCE]}
            if entry.views and reference_views:
                values["augmented_views"] = entry.views
                values["ratio_per_view"] = values["ratio"] * entry.views / reference_views
            if entry.in_tensors:
                values["memory"] = peak_over_output(entry.competitor.call, device)
        table.add(name, timing, **values)
    return table


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
