# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads results: the table of ``anomalib-ssl benchmark``, and the one of anomalib's own ``anomalib benchmark``."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_ssl.comparison.row import SETTINGS, Row, column_types
from anomalib_ssl.comparison.table import MakeRow, read_header, read_rows

STOCK_MODEL = "model.init_args."
STOCK_DATA = "data.init_args."

NUMBERS = tuple(name for name, kind in column_types().items() if kind in (int, float) and name != "seed")
"""Columns that are averaged."""

LARGEST = 1e15
"""Numbers below it can be added, squared and drawn; no measurement comes near."""

DEEPEST = 20
"""Levels of lists and mappings in an argument."""


@dataclass(frozen=True)
class Result:
    """A row, the folder of its table, and whether that is one of anomalib's own command."""

    row: Row
    folder: Path
    stock: bool = False

    @property
    def maps(self) -> Path:
        """Where the anomaly maps of the job would be."""
        return self.folder / "pictures" / self.row.pictures[0]

    @property
    def images(self) -> Path:
        """Where the images of the category would be."""
        return self.folder / "pictures" / self.row.pictures[1]


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read tables of either kind. A line that is no result is left out with a warning that names it.

    Args:
        paths: CSV files, or folders of ``anomalib-ssl benchmark``.

    Returns:
        One result per job of a table: of several rows the last one counts. Rows that several tables hold, the same in
        every cell, are copies of one result; other rows are results of their own, whatever the names of their jobs.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is none of these tables, or there is no result in any.
    """
    jobs: dict[tuple[Path, str], Result] = {}
    for path in dict.fromkeys((path / "results.csv" if path.is_dir() else path).resolve() for path in paths):
        if not path.is_file():
            msg = f"results: there is no file '{path}'."
            raise FileNotFoundError(msg)
        stock = "model.class_path" in read_header(path)
        for row in read_rows(path, _maker(path)):
            jobs[path, row.job] = Result(row, path.parent, stock)
    results: dict[Row, Result] = {}
    for result in jobs.values():
        known = results.setdefault(result.row, result)
        if not known.maps.is_file():  # a copy of the table alone has no pictures
            results[result.row] = result
    if not results:
        msg = f"results: no line of {', '.join(map(str, paths))} is a result; warnings tell what is wrong with each."
        raise ValueError(msg)
    return list(results.values())


def _maker(path: Path) -> MakeRow:
    columns = set(read_header(path))
    if {"job", "status", "model"} <= columns:
        return _checked
    if {"model.class_path", "data.class_path", "seed"} <= columns:
        return lambda cells: _checked(_stock(cells))
    msg = f"results: '{path}' is neither a table of 'anomalib-ssl benchmark' nor one of 'anomalib benchmark'."
    raise ValueError(msg)


def _checked(cells: Mapping[str, str]) -> Row:
    """Make a row whose numbers can be averaged and whose arguments can be shown."""
    row = Row.from_cells(cells)
    for name in NUMBERS:
        if abs(getattr(row, name) or 0) >= LARGEST:
            msg = f"{name} must be less than {LARGEST:g}, got {cells[name][:80]!r}."
            raise ValueError(msg)
    for name in SETTINGS:
        if not _is_flat(json.loads(cells.get(name) or "{}"), DEEPEST):
            msg = f"{name} must have {DEEPEST} levels at most, got {cells[name][:80]!r}."
            raise ValueError(msg)
    return row


def _is_flat(value: Any, levels: int) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels >= 0 and all(_is_flat(item, levels - 1) for item in items)


def _stock(cells: Mapping[str, str]) -> dict[str, str]:
    """Make the cells of a line of anomalib's table; what it does not tell stays empty."""
    model, data = (
        {name.removeprefix(prefix): text for name, text in sorted(cells.items()) if name.startswith(prefix) and text}
        for prefix in (STOCK_MODEL, STOCK_DATA)
    )
    model.pop("seed", None)
    data.pop("root", None)
    category = data.pop("category", "")
    side, updates = model.get("image_size", ""), model.get("max_updates", "")
    pretrained, transductive = model.get("pre_trained", model.get("pretrained")), cells.get("transductive", "")
    return {name: cells.get(name, "") for name in ("seed", "accelerator", *NUMBERS)} | {
        "job": " ".join(cells.values()),  # it has no name: the same line is the same job
        "status": "ok",
        "model": cells["model.class_path"].rpartition(".")[2],
        "dataset": data.get("name") or cells["data.class_path"].rpartition(".")[2],
        "category": category,
        "model_args": json.dumps(model) if model else "",
        "data_args": json.dumps(data) if data else "",
        "transductive": {"1.0": "True", "0.0": "False"}.get(transductive, transductive),
        "pretrained": "" if pretrained is None else str(pretrained == "True"),
        "resolution": f"{side}x{side}" if side.isdigit() else "",
        "budget": f"{updates} updates" if updates.isdigit() else "",
    }
