# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a training update of CutPaste is made of, and what the network's part costs in each precision and layout.

Run as ``python benchmarks/training_step.py --out result.json``; the method is in benchmarks/README.md.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from anomalib.data import MVTecAD
from anomalib.engine import Engine
from harness.machine import default_device
from harness.measure import Timing, measure, synchronizer
from harness.network import network_steps
from harness.parts import AUGMENTATION, ForgetWarmup, SynchronizedProfiler, profiled
from harness.photographs import CATEGORY, write_category
from harness.quiet import quiet
from harness.report import Column, Table, save, show
from harness.updates import UpdateClock, feed_name
from jsonargparse import auto_cli

from anomalib_ssl import CutPaste

PARTS = {
    "next_batch": "train_dataloader_next",
    "to_device": "Strategy.batch_to_device",
    "resize": "PreProcessor.on_train_batch_start",
    "augmentation": AUGMENTATION,
    "network": "run_training_batch",
}
"""Parts of an update by the names of Lightning's actions; the augmentation happens within the last."""

STEP_COLUMNS = (
    Column("name", "feed"),
    Column("median_seconds", "s/update", ".4f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x reference", ".2f"),
    Column("next_batch", "next batch", ".1%"),
    Column("to_device", "to device", ".1%"),
    Column("resize", "resize", ".1%"),
    Column("augmentation", "augmentation", ".1%"),
    Column("network", "network", ".1%"),
    Column("rest", "epoch starts, rest", ".1%"),
    Column("data_and_augmentation", "all but network", ".1%"),
)

NETWORK_COLUMNS = (
    Column("name", "network"),
    Column("median_seconds", "s/step", ".4f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x reference", ".2f"),
    Column("compile_seconds", "compilation, s", ".0f"),
)


def benchmark(
    batch_size: int = 96,
    precision: Literal["32-true", "bf16-mixed"] = "bf16-mixed",
    image_size: int = 256,
    backbone: str = "resnet18",
    num_images: int = 192,
    file_size: int = 1024,
    updates: int = 20,
    warmup: int = 4,
    workers: Sequence[int] = (8,),
    rounds: int = 3,
    repeats: int = 7,
    compiled: bool = True,
    device: str | None = None,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Take a training update apart.

    Args:
        batch_size: Source images per update; each gives three views.
        precision: The Trainer's precision.
        image_size: Side to which images are resized.
        backbone: Name of a timm network.
        num_images: Training images.
        file_size: Side of the PNG files in pixels.
        updates: Updates per run that count.
        warmup: Updates before them.
        workers: Numbers of worker processes to try; anomalib's default is 8. The stock loader with the first of them is
            the reference.
        rounds: Runs of each feed.
        repeats: Turns of each network; 0 leaves the networks out.
        compiled: Whether compiled networks take part.
        device: ``cpu`` or ``cuda``; a GPU by default where there is one.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    device = device or default_device()
    what = f"{backbone}, {batch_size} images ({3 * batch_size} views) of {image_size}x{image_size}, {device}"
    options: dict[str, Any] = {"backbone": backbone, "image_size": image_size, "seed": 0, "visualizer": False}
    feeds = {feed_name(in_memory, number): (in_memory, number) for number in workers for in_memory in (False, True)}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in feeds}
    with tempfile.TemporaryDirectory() as folder:
        root = write_category(Path(folder), file_size, num_images, num_test=1)
        for number in range(rounds):
            for name, (in_memory, processes) in list(feeds.items())[:: 1 if number % 2 == 0 else -1]:
                with quiet():
                    model = CutPaste(**options, max_updates=warmup + updates, in_memory=in_memory)
                    data = MVTecAD(root=root, category=CATEGORY, train_batch_size=batch_size, num_workers=processes)
                    runs[name].append(train(model, data, warmup, precision, device, Path(folder) / "results"))
    tables = [tabulate_parts(f"Training update: {what}, {precision}", runs)]
    show(tables[0])
    if repeats:
        tables.append(
            measure_networks(f"Network alone: {what}", backbone, 3 * batch_size, image_size, repeats, compiled, device)
        )
        show(tables[1])
    return save("training_step", arguments, tables, out, markdown)


def train(model: CutPaste, data: MVTecAD, warmup: int, precision: str, device: str, folder: Path) -> dict[str, float]:
    """Train and give seconds per update, of the whole and of each part."""
    profiler = SynchronizedProfiler(device)
    clock = UpdateClock(warmup)
    model.views = profiled(model.views, profiler)
    engine = Engine(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision=precision,
        profiler=profiler,
        callbacks=[clock, ForgetWarmup(profiler, warmup)],
        limit_val_batches=0,
        enable_progress_bar=False,
        logger=False,
        default_root_dir=folder,
    )
    engine.fit(model=model, datamodule=data)
    counted = len(clock.ends) - warmup
    total = (clock.ends[-1] - clock.ends[warmup - 1]) / counted
    parts = {part: profiler.seconds(action) / counted for part, action in PARTS.items()}
    parts["network"] -= parts["augmentation"]
    return {"total": total, **parts, "rest": total - sum(parts.values())}


def tabulate_parts(title: str, runs: dict[str, list[dict[str, float]]]) -> Table:
    """Put the median duration over the rounds into a table, and the parts' shares in the sum of all rounds."""
    table = Table(title, STEP_COLUMNS)
    timings = {name: Timing(tuple(run["total"] for run in results)) for name, results in runs.items()}
    reference = next(iter(timings.values())).median
    for name, timing in timings.items():
        total = sum(run["total"] for run in runs[name])
        shares = {part: sum(run[part] for run in runs[name]) / total for part in (*PARTS, "rest")}
        shares["data_and_augmentation"] = 1 - shares["network"]
        table.add(name, timing, ratio=reference / timing.median, **shares)
    return table


def measure_networks(
    title: str, backbone: str, views: int, image_size: int, repeats: int, compiling: bool, device: str
) -> Table:
    """Time forward, backward and optimiser on given views."""
    competitors = network_steps(backbone, views, image_size, compiling, device)
    timings = measure(competitors, repeats, synchronize=synchronizer(device))
    reference = timings[competitors[0].name]
    table = Table(title, NETWORK_COLUMNS)
    for name, timing in timings.items():
        values: dict[str, Any] = {}
        if isinstance(timing, Timing) and isinstance(reference, Timing):
            values = {"ratio": reference.median / timing.median}
            if name.endswith("compiled"):
                values["compile_seconds"] = timing.first_use_seconds
        table.add(name, timing, **values)
    return table


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
