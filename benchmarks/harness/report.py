# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Results as tables on the console, as Markdown and as JSON."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table as RichTable

from harness.machine import describe_machine
from harness.measure import Skipped, Timing

Row = dict[str, Any]


class Column(NamedTuple):
    """A column of a table: the rows' key, its heading, and how Python's ``format`` shows the value."""

    key: str
    heading: str
    format: str = ""

    def cell(self, row: Row) -> str:
        """Show this column's value; nothing where the row has none."""
        value = row.get(self.key)
        return "" if value is None else format(value, self.format)


@dataclass
class Table:
    """Rows under a title, and what had to be left out.

    Args:
        title: What was measured.
        columns: What to show of the rows; JSON holds all of them.
        rows: The results.
        skipped: Reasons by the names of the competitors that could not run.
    """

    title: str
    columns: tuple[Column, ...]
    rows: list[Row] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, result: Timing | Skipped, **values: Any) -> None:
        """Add a competitor with its median and spread, and further values."""
        if isinstance(result, Skipped):
            self.skipped[name] = result.reason
            return
        low, median, high = result.quartiles
        times = {"median_seconds": median, "quartile_seconds": [low, high], "spread": result.spread}
        self.rows.append({"name": name, **times, **values})

    def cells(self) -> list[list[str]]:
        """All rows as text."""
        return [[column.cell(row) for column in self.columns] for row in self.rows]

    def markdown(self) -> str:
        """Give the table as Markdown, with a note for everything skipped."""
        headings = [column.heading for column in self.columns]
        lines = [headings, ["---"] * len(headings), *self.cells()]
        notes = [f"* Skipped: {name} ({reason})" for name, reason in self.skipped.items()]
        text = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return "\n\n".join([f"## {self.title}", text, *(["\n".join(notes)] if notes else [])])

    def rich(self) -> RichTable:
        """Give the table for the console."""
        notes = "\n".join(f"skipped: {name} ({reason})" for name, reason in self.skipped.items())
        table = RichTable(title=self.title, caption=notes or None, title_justify="left", caption_justify="left")
        for column in self.columns:
            table.add_column(column.heading, justify="left" if column.key == "name" else "right")
        for cells in self.cells():
            table.add_row(*cells)
        return table


def save(
    benchmark: str,
    arguments: Mapping[str, Any],
    tables: Iterable[Table],
    out: Path | None,
    markdown: Path | None,
) -> dict[str, Any]:
    """Write the results of a benchmark where asked to.

    Args:
        benchmark: Its name.
        arguments: What it was called with.
        tables: Its results.
        out: JSON file to write, if any.
        markdown: Markdown file to write, if any.

    Returns:
        What the JSON file holds.
    """
    tables = list(tables)
    content = {
        "benchmark": benchmark,
        "machine": describe_machine(),
        "arguments": {name: str(value) if isinstance(value, Path) else value for name, value in arguments.items()},
        "tables": [{"title": table.title, "rows": table.rows, "skipped": table.skipped} for table in tables],
    }
    if out is not None:
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if markdown is not None:
        machine = "\n".join(f"* {name}: {value}" for name, value in content["machine"].items() if value is not None)
        markdown.write_text("\n\n".join([machine, *(table.markdown() for table in tables)]) + "\n", encoding="utf-8")
    return content


def show(table: Table) -> None:
    """Print a table as soon as it is complete."""
    Console(width=None if Console().is_terminal else 160).print(table.rich())
