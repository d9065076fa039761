# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Reads tables of results line by line: a line that is none costs itself alone."""

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from anomalib_ssl.comparison.row import Row

logger = logging.getLogger(__name__)

MakeRow = Callable[[Mapping[str, str]], Row]
"""Makes a row of the cells of a line, by column; a ValueError says what is wrong with them."""


def read_header(path: Path) -> list[str]:
    """Read the names of the columns; none of an empty file.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    return next(_lines(path), (1, []))[1]


def read_rows(path: Path, make: MakeRow = Row.from_cells) -> Iterator[Row]:
    """Read a table in the order of its lines; what is no row is left out with a warning that names it.

    Args:
        path: CSV file in UTF-8, one line a row.
        make: How a row is made of a line.

    Yields:
        The rows.
    """
    lines = _lines(path)
    _, columns = next(lines, (1, []))
    for number, cells in lines:
        row = _made(cells, columns, number, make, path)
        if row is not None:
            yield row


def _made(cells: list[str], columns: list[str], number: int, make: MakeRow, path: Path) -> Row | None:
    try:
        if len(cells) != len(columns):
            msg = f"it has {len(cells)} cells, the first line {len(columns)}."
            raise ValueError(msg)  # noqa: TRY301  # named as all other reasons are
        if any("\N{REPLACEMENT CHARACTER}" in cell for cell in cells):
            msg = "it is not in UTF-8."
            raise ValueError(msg)  # noqa: TRY301
        return make(dict(zip(columns, cells, strict=True)))
    except ValueError as error:
        logger.warning("%s, line %d is left out: %s", path, number, error)
        return None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of the lines that are not empty; no cells of a line that is none of a table."""
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _cells(line.rstrip("\r"))


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error:  # such as a cell of more than 128 KiB
        return []
