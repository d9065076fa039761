# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The first hour on a GPU: tests, speed, memory, waits, and one real training per model, on one page.

Run as ``make gpu``, on a machine with CUDA. What is done is kept: run again after a failure or an interruption, it goes
on. ``python benchmarks/gpu.py --pretend true`` goes through the same steps on the CPU with the smallest settings.
"""

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from harness.machine import describe_machine
from jsonargparse import auto_cli

from anomalib_ssl.demo import write_dataset

HERE = Path(__file__).parent

MODELS = (
    "CutPaste",
    "CutPastePatch",
    "NSA",
    "SSM",
    "AutoencoderProjection",
    "DynamicLocalAugmentation",
)
"""What is trained, with its defaults. STSSAD without unlabelled images is CutPaste."""

TABLES = ("augmentation", "update", "waits")
"""Steps that leave tables."""

SMALLEST = {
    "augmentation": ("--batch_sizes", "[2]", "--min_seconds", "0.01", "--workers", "0", "--repeats", "1"),
    "update": (
        *("--num_images", "4", "--file_size", "64", "--updates", "1", "--warmup", "1", "--rounds", "1"),
        *("--batch_size", "2", "--workers", "[0]", "--compiled", "false", "--backbone", "test_resnet"),
        *("--repeats", "1", "--precision", "32-true"),
    ),
    "waits": ("--updates", "3", "--batch_size", "2"),
    "trainings": ("--throughput_batch_size", "2"),
}
"""What makes each step as small as can be."""

ROW = (
    "model",
    "category",
    "resolution",
    "updates",
    "training_duration",
    "image_AUROC",
    "pixel_AUROC",
    "pixel_AUPRO",
    "images_per_second_1",
    "images_per_second_n",
    "peak_memory",
    "error",
)
"""What the page shows of the trainings; the JSON file has all."""


def first_hour(
    data_root: Path | None = None,
    categories: list[str] | None = None,
    minutes: float = 5,
    image_size: int = 256,
    batch_size: int = 32,
    output: Path = Path("runs/gpu"),
    pages: Path = Path("docs/results/gpu"),
    pretend: bool = False,
) -> Path:
    """Run all steps that are not done, and write ``DEVICE.md`` and ``DEVICE.json``.

    Args:
        data_root: Folder in MVTec layout; the demo's generated images by default.
        categories: Its categories; one of the demo's by default.
        minutes: Budget of each training.
        image_size: Side of the images in pixels.
        batch_size: Images per update.
        output: Folder of what each step gives.
        pages: Folder of the page.
        pretend: Whether to run on the CPU, as small as possible, to see that everything works.

    Returns:
        The page.

    Raises:
        RuntimeError: If there is no CUDA device and ``pretend`` is not set.
    """
    machine = describe_machine()
    if machine["gpu"] is None and not pretend:
        msg = "There is no CUDA device here; --pretend true goes through the steps on the CPU."
        raise RuntimeError(msg)
    device = "cpu" if pretend else "cuda"
    if pretend:
        minutes, image_size, batch_size, output = 0.02, 64, 4, output / "pretended"
    output.mkdir(parents=True, exist_ok=True)
    if data_root is None:
        count = {"num_train": 12, "num_test_good": 4, "num_test_per_defect": 1} if pretend else {}
        data_root, categories = write_dataset(output / "images", ["wood"], image_size=image_size, **count), ["wood"]
    if not categories:
        msg = "categories must be named where data_root is given."
        raise ValueError(msg)
    config = output / "benchmark.yaml"
    config.write_text(yaml.safe_dump(_benchmark(device, image_size, batch_size)))
    steps: dict[str, tuple[str, ...]] = {
        "tests": ("-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"),
        "augmentation": (str(HERE / "augmentation_throughput.py"), *_options(image_size, devices=f"[{device}]")),
        "update": (str(HERE / "training_step.py"), *_options(image_size, device=device)),
        "waits": (
            str(HERE / "waits.py"),
            *_options(image_size, device=device, data_root=data_root, category=categories[0]),
        ),
        "trainings": (
            *("-c", "import sys; from anomalib_ssl.cli import main; sys.exit(main())", "benchmark"),
            *("--config", str(config), "--data_root", str(data_root), "--categories", json.dumps(categories)),
            *("--minutes", str(minutes), "--output", str(output / "trainings"), "--resume"),
        ),
    }
    for name, values in steps.items():
        written = ("--out", str(output / f"{name}.json")) if name in TABLES else ()
        steps[name] = (*values, *written, *(SMALLEST.get(name, ()) if pretend else ()))
    done = {name: _run(name, command, output) for name, command in steps.items()}
    return _write(machine, done, output, pages, pretend)


def _benchmark(device: str, image_size: int, batch_size: int) -> dict[str, Any]:
    loading = {"train_batch_size": batch_size, "eval_batch_size": batch_size, "num_workers": 0}
    data = {"class_path": "MVTecAD", "init_args": {"root": ".", "category": "wood", **loading}}
    models = [{"class_path": name, "init_args": {"image_size": image_size}} for name in MODELS]
    return {"accelerator": device, "benchmark": {"seed": 0, "model": {"grid": models}, "data": data}}


def _options(image_size: int, **options: object) -> list[str]:
    values = {"image_size": image_size, **options}
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def _run(name: str, command: tuple[str, ...], output: Path) -> dict[str, Any]:
    """Run a step unless it has succeeded before; what it prints is kept."""
    state = output / f"{name}.state.json"
    if (
        state.is_file()
        and (before := json.loads(state.read_text()))["code"] == 0
        and (before["command"] == ["python", *command])
    ):
        print(f"{name}: done before", flush=True)
        return dict(before)
    print(f"{name}: python {' '.join(command)}", flush=True)
    start = time.monotonic()
    with (output / f"{name}.log").open("w") as log:
        code = subprocess.run([sys.executable, *command], stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    # All tests being left out, as on a CPU, is no failure: pytest's 5.
    code = 0 if name == "tests" and code == 5 else code
    found = {"command": ["python", *command], "code": code, "seconds": round(time.monotonic() - start, 1)}
    state.write_text(json.dumps(found))
    print(f"{name}: {'done' if code == 0 else f'failed, see {output / name}.log'} ({found['seconds']} s)", flush=True)
    return found


def _write(machine: dict[str, Any], done: dict[str, Any], output: Path, pages: Path, pretend: bool) -> Path:
    """Put the page together of whatever the steps left."""
    named = str(machine["gpu"] or machine["cpu"])
    name = re.sub(r"[^A-Za-z0-9]+", "-", named).strip("-") + ("-pretended" if pretend else "")
    results: dict[str, Any] = {"machine": machine, "steps": done}
    for step in TABLES:
        if done[step]["code"] == 0:
            results[step] = json.loads((output / f"{step}.json").read_text())["tables"]
    lines = [f"# First hour on {named}", ""]
    lines += [f"* {key}: {value}" for key, value in machine.items() if value is not None]
    lines += ["", "| step | result | seconds |", "| --- | --- | ---: |"]
    lines += [f"| {step} | {_outcome(step, found, output)} | {found['seconds']} |" for step, found in done.items()]
    table = output / "trainings" / "results.csv"
    if table.is_file():
        rows = pd.read_csv(table).drop_duplicates("job", keep="last")
        results["trainings"] = json.loads(rows.to_json(orient="records"))
        lines += [
            "",
            "## Trainings",
            "",
            "Memory in MiB, durations in seconds, as `anomalib-ssl benchmark` gives them.",
        ]
        lines += ["", *_markdown(rows[[column for column in ROW if column in rows]])]
    for step in TABLES:
        for found in results.get(step, ()):
            shown = pd.DataFrame(found["rows"]).drop(columns=["quartile_seconds"], errors="ignore")
            lines += ["", f"## {found['title']}", "", *_markdown(shown)]
    pages.mkdir(parents=True, exist_ok=True)
    (pages / f"{name}.json").write_text(json.dumps(results, indent=1))
    page = pages / f"{name}.md"
    page.write_text("\n".join(lines) + "\n")
    print(page)
    return page


def _outcome(step: str, found: dict[str, Any], output: Path) -> str:
    log = (output / f"{step}.log").read_text().strip().splitlines()
    if step == "tests" and log:
        return log[-1].strip("= ")
    return "done" if found["code"] == 0 else f"failed: {log[-1] if log else ''}"


def _markdown(rows: pd.DataFrame) -> list[str]:
    def cell(value: Any) -> str:
        return "" if pd.isna(value) else f"{value:.4g}" if isinstance(value, float) else str(value)

    heading = ["| " + " | ".join(rows.columns) + " |", "|" + " --- |" * len(rows.columns)]
    return heading + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows.itertuples(index=False)]


if __name__ == "__main__":
    auto_cli(first_hour, as_positional=False)
