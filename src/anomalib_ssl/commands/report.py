# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl report``: results as a page, as tables and as plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_ssl.checks import check_output, check_whole
from anomalib_ssl.file_names import safe_name
from anomalib_ssl.report import formatting, plots, rendering
from anomalib_ssl.report.page import Page, make_page
from anomalib_ssl.report.reading import read_results


def report(
    results: list[Path],
    output: Path = Path("report"),
    title: str = "Anomaly detection benchmark",
    cases: int = 2,
    page: Path | None = None,
    notes: list[str] | None = None,
) -> Path:
    """Make a page, tables and plots of results.

    Reads ``results.csv`` of ``anomalib-ssl benchmark``, or its folder, and the table that ``anomalib benchmark``
    writes; several together. Writes ``report.html``, which needs no other file, ``report.md``, ``summary.csv`` and
    plots as PNG and SVG. Results of different settings are never averaged.

    Args:
        results: Tables of results.
        output: Folder to write to.
        title: Heading.
        cases: Number of best and of worst cases that the gallery shows of each category; 0 for no gallery. It needs
            maps, which ``anomalib-ssl benchmark`` keeps.
        page: Markdown file to write too, with its plots in a folder of its name beside it: a page of documentation.
        notes: Paragraphs below the heading, for what a reader should know and results do not tell: where weights are
            from, what else the machine did.

    Returns:
        The HTML file.

    Raises:
        FileNotFoundError: If there is no such table.
        ValueError: If a table is of neither kind, or holds no result.
    """
    check_whole("cases", cases, 0)
    check_output("output", output)
    if page is not None:
        check_output("page", page, (".md",))
    made = make_page(read_results(results), title, cases, notes or ())
    drawn = {tables.dataset: plots.draw(tables) for tables in made.datasets}
    _write_markdown(made, drawn, output / "report.md", output / "plots")
    if page is not None:
        _write_markdown(made, drawn, page, page.with_suffix(""))
    _summary(made).to_csv(output / "summary.csv", index=False, float_format="%.4g", lineterminator="\n")
    path = output / "report.html"
    path.write_text(rendering.html(made, drawn), encoding="utf-8")
    return path


def _write_markdown(page: Page, drawn: Mapping[str, Mapping[str, plots.Plot]], path: Path, folder: Path) -> None:
    shown: dict[str, dict[Path, str]] = {}
    for dataset, named in drawn.items():
        files = {name: plots.save(plot.figure, folder, f"{safe_name(dataset)}_{name}") for name, plot in named.items()}
        chosen = (name for name in files if name.startswith(plots.SCATTERS))
        shown[dataset] = {files[name].relative_to(path.parent): named[name].title for name in chosen}
    path.write_text(rendering.markdown(page, shown), encoding="utf-8")


def _summary(page: Page) -> pd.DataFrame:
    """List all scores, in percent."""
    lines = [
        {
            "dataset": tables.dataset,
            "model": contender.title,
            "resolution": contender.row.resolution,
            "budget": contender.row.budget,
            "minutes": contender.runs["minutes"].mean(),
            "start_weights": formatting.start_weights(contender),
            "device": contender.device,
            "metric": cell.metric,
            "category": cell.name,
            "mean": 100 * cell.mean,
            "std": 100 * cell.std,
            "low": 100 * cell.low,
            "high": 100 * cell.high,
            "runs": cell.runs,
            "published": cell.published,
            "gap": cell.gap,
        }
        for tables in page.datasets
        for cell in tables.scores.dropna(subset="mean").itertuples()
        for contender in [tables.contenders[cell.column]]
    ]
    return pd.DataFrame([{name: _cell(value) for name, value in line.items()} for line in lines])


def _cell(value: Any) -> Any:
    """Clean a text, and keep a table calculator from taking it for a formula."""
    text = formatting.clean(value) if isinstance(value, str) else ""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text or value
