# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Where training updates of each model make the host wait for the GPU, by PyTorch's own debug mode.

Run as ``python benchmarks/waits.py --data_root DIR --category NAME --out result.json``, on a machine with CUDA.
"""

import tempfile
import warnings
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from harness.machine import default_device
from harness.quiet import quiet
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from lightning.pytorch import Callback

COLUMNS = (Column("name", "model"), Column("per_update", "waits per update", ".2f"), Column("where", "where"))


class Watch(Callback):
    """Count what waits in the updates after the first ones.

    Args:
        skipped: Updates at the start that do not count.
    """

    def __init__(self, skipped: int = 2) -> None:
        self.skipped = skipped
        self.updates = 0
        self.found: Counter[str] = Counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Look from here."""
        self._seen = warnings.catch_warnings(record=True)
        self._list = self._seen.__enter__()
        warnings.simplefilter("always")
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Look until here."""
        if torch.cuda.is_available():
            torch.cuda.set_sync_debug_mode("default")
        self._seen.__exit__(None, None, None)
        if trainer.global_step <= self.skipped:
            return
        self.updates += 1
        for warning in self._list or ():
            if "synchronizing" in str(warning.message):
                path = Path(warning.filename)
                self.found[f"{'/'.join(path.parts[-3:])}, line {warning.lineno}"] += 1


def benchmark(
    data_root: Path,
    category: str,
    image_size: int = 256,
    batch_size: int = 8,
    updates: int = 10,
    device: str | None = None,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Train each registered model for a few updates and list what waits.

    Args:
        data_root: Folder in MVTec layout.
        category: Its category.
        image_size: Side of the images in pixels.
        batch_size: Images per update.
        updates: Updates of each model; the first two do not count.
        device: ``cpu``, where nothing waits, or ``cuda``.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    device = device or default_device()
    table = Table(f"Waits for the device: {device}, {batch_size} images of {image_size}x{image_size}", COLUMNS)
    for entry in sorted(entry_points(group="anomalib.models"), key=lambda entry: entry.name):
        watch = Watch()
        with tempfile.TemporaryDirectory() as folder, quiet():
            model = entry.load()(image_size=image_size, max_updates=updates, seed=0, visualizer=False)
            engine = Engine(
                accelerator="gpu" if device == "cuda" else "cpu",
                devices=1,
                callbacks=[watch],
                limit_val_batches=0,
                enable_progress_bar=False,
                logger=False,
                default_root_dir=folder,
            )
            data = MVTecAD(root=data_root, category=category, train_batch_size=batch_size, num_workers=0)
            engine.fit(model, datamodule=data)
        where = "; ".join(f"{place} ({count})" for place, count in watch.found.most_common())
        total = sum(watch.found.values()) / max(watch.updates, 1)
        table.rows.append({"name": entry.name, "per_update": total, "where": where})
    show(table)
    return save("waits", arguments, [table], out, markdown)


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
