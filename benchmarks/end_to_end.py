# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Updates per second of whole ``anomalib train`` runs: images from memory, and from the stock loader.

Run as ``python benchmarks/end_to_end.py --out result.json``; the method is in benchmarks/README.md.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anomalib.cli.cli import AnomalibCLI
from harness.machine import default_device
from harness.measure import Timing
from harness.photographs import CATEGORY, write_category
from harness.quiet import quiet
from harness.report import Column, Table, save, show
from harness.updates import UpdateClock, feed_name
from jsonargparse import auto_cli

COLUMNS = (
    Column("name", "feed"),
    Column("updates_per_second", "updates/s", ".2f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x reference", ".2f"),
    Column("run_seconds", "whole run, s", ".1f"),
    Column("run_ratio", "x reference", ".2f"),
    Column("first_update_seconds", "first update after, s", ".1f"),
    Column("final_loss", "final loss", ".3f"),
    Column("image_auroc", "image AUROC", ".3f"),
)


def benchmark(
    num_images: int = 200,
    file_size: int = 1024,
    image_size: int = 64,
    backbone: str = "resnet10t",
    batch_size: int = 32,
    updates: int = 100,
    warmup: int = 10,
    workers: Sequence[int] = (8,),
    rounds: int = 3,
    precision: str = "32-true",
    device: str | None = None,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Train the same model on the same files with both feeds in turns.

    Args:
        num_images: Training images.
        file_size: Side of the PNG files in pixels.
        image_size: Side to which the model resizes them.
        backbone: Name of a timm network.
        batch_size: Source images per update.
        updates: Updates per run.
        warmup: Updates at the start of each run that do not count in the rate.
        workers: Numbers of worker processes to try; anomalib's default is 8. The stock loader with the first of them is
            the reference.
        rounds: Runs of each feed.
        precision: The Trainer's precision.
        device: ``cpu`` or ``cuda``; a GPU by default where there is one.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    device = device or default_device()
    feeds = {
        feed_name(in_memory, number): [f"--model.in_memory={in_memory}", f"--data.num_workers={number}"]
        for number in workers
        for in_memory in (False, True)
    }
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in feeds}
    with tempfile.TemporaryDirectory() as folder:
        root = write_category(Path(folder) / "data", file_size, num_images)
        flags = {
            "model": "CutPaste",
            "model.backbone": backbone,
            "model.image_size": image_size,
            "model.max_updates": updates,
            "model.seed": 0,
            "model.visualizer": "false",
            "data": "MVTecAD",
            "data.root": root,
            "data.category": CATEGORY,
            "data.train_batch_size": batch_size,
            "trainer.precision": precision,
            "trainer.accelerator": "gpu" if device == "cuda" else "cpu",
            "trainer.devices": 1,
            "trainer.enable_progress_bar": "false",
            "trainer.callbacks": "harness.updates.UpdateClock",
            "trainer.callbacks.warmup": warmup,
            "default_root_dir": Path(folder) / "results",
        }
        common = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
        for number in range(rounds):
            for name, feed in list(feeds.items())[:: 1 if number % 2 == 0 else -1]:
                runs[name].append(train([*common, *feed]))
    title = (
        f"{backbone} at {image_size}x{image_size}, {batch_size} images per update, {num_images} PNG files of "
        f"{file_size}x{file_size}, {device}, {precision}"
    )
    table = tabulate(title, runs)
    show(table)
    return save("end_to_end", arguments, [table], out, markdown)


def train(arguments: Sequence[str]) -> dict[str, float]:
    """Run ``anomalib train`` in this process, so that imports do not count, and say what came of it."""
    with quiet():
        start = time.perf_counter()
        AnomalibCLI(args=["train", *arguments])
        seconds = time.perf_counter() - start
    clock = UpdateClock.latest
    return {
        "seconds_per_update": clock.seconds_per_update,
        "run_seconds": seconds,
        "first_update_seconds": clock.ends[0] - start,
        "final_loss": clock.final_loss,
        "image_auroc": clock.metrics["image_AUROC"],
    }


def tabulate(title: str, runs: dict[str, list[dict[str, float]]]) -> Table:
    """Put medians over the rounds into a table, with ratios to the first feed."""
    medians = {
        name: {key: statistics.median(run[key] for run in results) for key in results[0]}
        for name, results in runs.items()
    }
    reference = next(iter(medians))
    table = Table(title, COLUMNS)
    for name, values in medians.items():
        timing = Timing(tuple(run["seconds_per_update"] for run in runs[name]))
        table.add(
            name,
            timing,
            updates_per_second=1 / timing.median,
            ratio=medians[reference]["seconds_per_update"] / timing.median,
            run_ratio=medians[reference]["run_seconds"] / values["run_seconds"],
            **{key: value for key, value in values.items() if key != "seconds_per_update"},
        )
    return table


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
