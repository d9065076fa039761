# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads results: the table of ``anomalib-ssl benchmark``, and the one of anomalib's own ``anomalib benchmark``."""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.comparison.table import read_rows

STOCK_MODEL = "model.init_args."
STOCK_DATA = "data.init_args."


@dataclass(frozen=True)
class Result:
    """A row, and where the pictures of its job would be."""

    row: Row
    pictures: Path


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read tables of either kind.

    Args:
        paths: CSV files, or folders of ``anomalib-ssl benchmark``.

    Returns:
        One result per job; of several rows of a job the last one counts.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is none of these tables, or there is no result in any.
    """
    results: dict[str, Result] = {}
    for given in paths:
        path = given / "results.csv" if given.is_dir() else given
        if not path.is_file():
            msg = f"results: there is no file '{path}'."
            raise FileNotFoundError(msg)
        rows = _rows(path)
        results.update({row.job: Result(row, path.parent / "pictures") for row in rows})
    if not results:
        msg = f"results: no result in {', '.join(str(path) for path in paths)}."
        raise ValueError(msg)
    return list(results.values())


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        if {"job", "status", "model"} <= columns:
            return list(read_rows(path))
        if {"model.class_path", "data.class_path", "seed"} <= columns:
            return [_stock(cells, f"{path.resolve()}:{number}") for number, cells in enumerate(reader, 2)]
    msg = f"'{path}' is neither a table of 'anomalib-ssl benchmark' nor one of 'anomalib benchmark'."
    raise ValueError(msg)


def _numbers(cells: Mapping[str, str], names: Iterable[str]) -> dict[str, Any]:
    return {name: float(cells[name]) for name in names if cells.get(name)}


def _stock(cells: Mapping[str, str], job: str) -> Row:
    """Make a row of a line of anomalib's table; what it does not tell stays unknown."""
    model = {
        name.removeprefix(STOCK_MODEL): text for name, text in cells.items() if name.startswith(STOCK_MODEL) and text
    }
    data = {name.removeprefix(STOCK_DATA): text for name, text in cells.items() if name.startswith(STOCK_DATA) and text}
    model.pop("seed", None)
    data.pop("root", None)
    category = data.pop("category", None)
    pretrained = model.get("pre_trained", model.get("pretrained"))
    side = model.get("image_size", "")
    updates = model.get("max_updates", "")
    return Row(
        job=job,
        status="ok",
        model=cells["model.class_path"].rpartition(".")[2],
        dataset=data.get("name") or cells["data.class_path"].rpartition(".")[2],
        seed=int(cells["seed"]),
        category=category,
        model_args=json.dumps(model, sort_keys=True) if model else None,
        data_args=json.dumps(data, sort_keys=True) if data else None,
        transductive=bool(float(cells["transductive"])) if cells.get("transductive") else None,
        pretrained=None if pretrained is None else pretrained == "True",
        resolution=f"{side}x{side}" if side.isdigit() else None,
        budget=f"{updates} updates" if updates.isdigit() else None,
        **_numbers(cells, (*METRICS, "fit_duration", "test_duration", "job_duration")),
        accelerator=cells.get("accelerator"),
    )
