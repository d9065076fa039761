# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""STSSAD on one defect type at a time: parameters tuned without labels beside random fixed ones, of the same detector.

Run as ``python benchmarks/defect_types.py --root datasets/MVTecAD --category transistor --out transistor.csv``. Each
result is appended to the file as soon as it is there; the same command goes on where it was interrupted.

TRANSDUCTIVE: the tuned runs have seen the test images, though not their labels.
"""

import csv
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from harness.quiet import quiet
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr, wilcoxon

from anomalib_ssl import STSSAD
from anomalib_ssl.models.st_ssad.image_pool import ImagePool, Pools, read_unlabeled

TUNED = "tuned"
NOTE = "TRANSDUCTIVE: the tuned runs have seen the test images, though not their labels"
COLUMNS = (
    "category",
    "defect_type",
    "seed",
    "method",
    "image_AUROC",
    "validation_loss",
    "spread",
    "dsv",
    "area",
    "aspect",
    "angle",
    "transductive",
    "seconds",
    "settings",
)
Row = dict[str, str]


def benchmark(
    root: Path,
    category: str,
    out: Path,
    defect_types: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    num_random: int = 8,
    tuning_updates: int = 400,
    training_updates: int = 400,
    augmentation: Literal["cutdiff", "cutout", "cutpaste", "rotation"] = "cutdiff",
    image_size: int = 64,
    backbone: str = "resnet18",
    batch_size: int = 16,
    outer_batch_size: int = 32,
    second_order: bool = True,
    num_starts: int = 4,
    area: tuple[float, float] = (0.02, 0.15),
    options: dict[str, Any] | None = None,
) -> list[Row]:
    """Train on the normal images, tune and test on the sound test images and those of one defect type.

    Random parameters are uniform within the bounds, area and aspect on a logarithmic scale, and the same for all
    seeds and defect types. All detectors are trained for ``training_updates``, from the same weights at the same seed;
    tuning comes before that.

    Args:
        root: Folder of a data set in MVTec layout.
        category: Its category.
        out: CSV file to append to.
        defect_types: Subfolders of ``test``; all but ``good`` by default.
        seeds: Seeds of each run.
        num_random: Number of random parameters.
        tuning_updates: Updates of search and tuning.
        training_updates: Updates of the training that is tested.
        augmentation: Augmentation that is tuned.
        image_size: Side in pixels to which images are resized.
        backbone: Name of a timm network.
        batch_size: Training images per update.
        outer_batch_size: Normal and unlabelled images per step of the parameters.
        second_order: Whether the tuning is second order.
        num_starts: Number of starts.
        area: Smallest and largest area of a patch.
        options: Further arguments of STSSAD.

    Returns:
        All rows of the file that belong to these settings.
    """
    shared: dict[str, Any] = {
        "augmentation": augmentation,
        "image_size": image_size,
        "backbone": backbone,
        "outer_batch_size": outer_batch_size,
        "second_order": second_order,
        "num_starts": num_starts,
        "area": list(area),
        **(options or {}),
    }
    budget = {"tuning_updates": tuning_updates, "training_updates": training_updates, "batch_size": batch_size}
    settings = json.dumps({**shared, **budget}, sort_keys=True)
    total = tuning_updates + training_updates
    tuned: dict[str, Any] = {**shared, "max_updates": total, "tuning_share": tuning_updates / total}
    fixed: dict[str, Any] = {**shared, "max_updates": training_updates, "tuning_share": 0.0}
    runs: dict[str, dict[str, Any]] = {TUNED: {**tuned, "unlabeled_source": "test"}}
    for number in range(num_random):
        runs[f"random {number}"] = {**fixed, "parameters": random_parameters(fixed, number)}
    types = defect_types or sorted(
        path.name for path in (root / category / "test").iterdir() if path.is_dir() and path.name != "good"
    )
    for defect_type in types:
        for seed in seeds:
            for method, arguments in runs.items():
                key = {"category": category, "defect_type": defect_type, "seed": str(seed), "method": method}
                key["settings"] = settings
                if any(all(row[name] == value for name, value in key.items()) for row in read(out)):
                    continue
                measured = run(root / category, defect_type, batch_size, {**arguments, "seed": seed})
                append(out, {**key, **measured})
    rows = [row for row in read(out) if row["settings"] == settings and row["category"] == category]
    show(category, rows)
    return rows


def random_parameters(arguments: dict[str, Any], number: int) -> dict[str, float]:
    """Draw parameters within the bounds of a model."""
    with quiet():
        augmentation = STSSAD(**arguments).augmentation
    shares = np.random.default_rng(number).uniform(0.01, 0.99, len(augmentation.bounds))
    values = augmentation.values(torch.logit(torch.tensor(shares)))
    return {name: float(value.rad2deg()) if name == "angle" else float(value) for name, value in values.items()}


def run(category: Path, defect_type: str, batch_size: int, arguments: dict[str, Any]) -> Row:
    """Train, test and judge one model."""
    started = time.monotonic()
    datamodule = Folder(
        name=category.name,
        root=category,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir=f"test/{defect_type}",
        train_batch_size=batch_size,
        num_workers=0,
        val_split_mode="same_as_test",
    )
    with tempfile.TemporaryDirectory() as folder, quiet():
        model = STSSAD(**arguments, visualizer=False)
        engine = Engine(default_root_dir=folder, enable_progress_bar=False, enable_model_summary=False, logger=False)
        engine.fit(model, datamodule=datamodule)
        (metrics,) = engine.test(model, datamodule=datamodule, verbose=False)
        train, unlabeled = (
            pool(engine, model, dataset.samples["image_path"])
            for dataset in (datamodule.train_data, datamodule.test_data)
        )
        torch.manual_seed(0)
        judgement = model.tuning.judge(Pools(train, unlabeled))
    return {
        "image_AUROC": f"{metrics['image_AUROC']:.4f}",
        "validation_loss": f"{judgement.loss:.5f}",
        "spread": f"{judgement.spread:.4f}",
        "dsv": f"{judgement.dsv:.5f}",
        **{name: f"{value:.5g}" for name, value in model.tuned_parameters.items()},
        "transductive": str(model.transductive),
        "seconds": f"{time.monotonic() - started:.0f}",
    }


def pool(engine: Engine, model: STSSAD, paths: Sequence[str]) -> ImagePool:
    """Images as the model sees them in a test."""
    return read_unlabeled(list(paths), engine.trainer, model.pre_processor, model.device)


def read(out: Path) -> list[Row]:
    """All rows there are."""
    if not out.is_file():
        return []
    with out.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def append(out: Path, row: Row) -> None:
    """Write a row at once, so that an interrupted run loses the one at hand alone."""
    new = not out.is_file()
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def summarize(rows: Sequence[Row]) -> list[dict[str, float | str]]:
    """Compare, for each defect type, tuned parameters with the mean over random ones, seed by seed.

    Args:
        rows: Rows of one category and one setting.

    Returns:
        For each defect type with both: mean AUROC of tuned and of random parameters and of the best of these, the mean
        difference of the pairs, the number of pairs, and Spearman's rank correlation of validation loss and AUROC over
        the random runs.
    """
    summary: list[dict[str, float | str]] = []
    for defect_type in sorted({row["defect_type"] for row in rows}):
        own = [row for row in rows if row["defect_type"] == defect_type]
        auroc = {(row["seed"], row["method"]): float(row["image_AUROC"]) for row in own}
        methods = sorted({row["method"] for row in own} - {TUNED})
        seeds = [
            seed
            for seed in sorted({row["seed"] for row in own})
            if all((seed, name) in auroc for name in [TUNED, *methods])
        ]
        if not seeds or not methods:
            continue
        random = np.array([[auroc[seed, method] for method in methods] for seed in seeds])
        tuned = np.array([auroc[seed, TUNED] for seed in seeds])
        fixed = [row for row in own if row["method"] != TUNED]
        losses, values = zip(
            *[(float(row["validation_loss"]), float(row["image_AUROC"])) for row in fixed], strict=True
        )
        constant = len(set(losses)) < 2 or len(set(values)) < 2
        summary.append(
            {
                "defect_type": defect_type,
                "tuned": float(tuned.mean()),
                "random": float(random.mean()),
                "best": float(random.mean(axis=0).max()),
                "difference": float((tuned - random.mean(axis=1)).mean()),
                "pairs": len(seeds),
                "spearman": float("nan") if constant else float(spearmanr(losses, values).statistic),
            }
        )
    return summary


def show(category: str, rows: Sequence[Row]) -> None:
    """Print the comparison."""
    table = Table(
        *("defect type", "tuned", "mean of random", "best of random", "difference", "seeds", "Spearman loss, AUROC"),
        title=f"{category}, image AUROC, one defect type at a time. {NOTE}",
        title_justify="left",
    )
    summary = summarize(rows)
    for line in summary:
        shares = [f"{100 * float(line[name]):.1f}" for name in ("tuned", "random", "best")]
        difference = f"{100 * float(line['difference']):+.1f}"
        table.add_row(str(line["defect_type"]), *shares, difference, str(line["pairs"]), f"{line['spearman']:+.2f}")
    console = Console(width=None if Console().is_terminal else 160)
    console.print(table)
    pairs = paired(rows)
    if len(pairs) >= 6 and np.ptp(pairs) > 0:
        console.print(f"{len(pairs)} pairs of type and seed, Wilcoxon signed rank: p = {wilcoxon(pairs).pvalue:.3f}")


def paired(rows: Sequence[Row]) -> list[float]:
    """AUROC of tuned parameters minus the mean over random ones, for each defect type and seed that has both."""
    differences = []
    for defect_type, seed in sorted({(row["defect_type"], row["seed"]) for row in rows}):
        own = [row for row in rows if (row["defect_type"], row["seed"]) == (defect_type, seed)]
        tuned = [float(row["image_AUROC"]) for row in own if row["method"] == TUNED]
        random = [float(row["image_AUROC"]) for row in own if row["method"] != TUNED]
        if tuned and random:
            differences.append(tuned[0] - float(np.mean(random)))
    return differences


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
