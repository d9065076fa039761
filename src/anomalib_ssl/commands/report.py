# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl report``: results as a page, as tables and as plots."""

import csv
from pathlib import Path

from anomalib_ssl.checks import check_number
from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import html_page, markdown, plots
from anomalib_ssl.report.page import Page, make_page
from anomalib_ssl.report.reading import read_results
from anomalib_ssl.report.tables import DatasetTables

SUMMARY = (
    "dataset",
    "model",
    "resolution",
    "budget",
    "start_weights",
    "device",
    "metric",
    "category",
    "mean",
    "std",
    "seeds",
    "published",
    "gap",
)
"""Columns of ``summary.csv``; scores in percent."""


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
    check_number("cases", cases, 0)
    if page is not None and page.suffix != ".md":
        msg = f"page must name a .md file, got '{page}'."
        raise ValueError(msg)
    made = make_page(read_results(results), title, cases, notes or ())
    output.mkdir(parents=True, exist_ok=True)
    _write_markdown(made, output / "report.md", output / "plots")
    if page is not None:
        _write_markdown(made, page, page.with_suffix(""))
    _write_summary(made, output / "summary.csv")
    path = output / "report.html"
    path.write_text(html_page.render(made), encoding="utf-8")
    return path


def _write_markdown(page: Page, path: Path, folder: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files: dict[str, list[tuple[str, Path]]] = {}
    for tables in page.datasets:
        saved = _save_plots(tables, folder)
        files[tables.dataset] = [(title, file.relative_to(path.parent)) for title, file in saved]
    path.write_text(markdown.render(page, files), encoding="utf-8")


def _save_plots(tables: DatasetTables, folder: Path) -> list[tuple[str, Path]]:
    """Save all plots of a data set, and name those that a Markdown page shows."""
    prefix = tables.dataset.lower().replace(" ", "_")
    shown = []
    for metric in html_page.SCATTERS:
        figure = plots.accuracy_and_speed(tables, metric)
        if figure is not None:
            path = folder / f"{prefix}_speed_{metric}"
            plots.save(figure, path)
            shown.append((f"Mean {METRICS[metric]} and images per second", path.with_suffix(".svg")))
    for table in tables.metrics:
        path = folder / f"{prefix}_{table.metric}"
        plots.save(plots.category_bars(table), path)
        if table.metric in html_page.SCATTERS:
            shown.append((f"{table.title} per category", path.with_suffix(".svg")))
    path = folder / f"{prefix}_legend"
    plots.save(plots.legend(tables.contenders), path)
    return [*shown, ("Colours of the models", path.with_suffix(".svg"))]


def _write_summary(page: Page, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(SUMMARY)
        for tables in page.datasets:
            for table in tables.metrics:
                for line in table.lines:
                    for contender, cell in zip(table.contenders, line.cells, strict=True):
                        figure = cell.figure
                        if figure is not None:
                            scores = [
                                f"{100 * figure.mean:.4g}",
                                "" if figure.std is None else f"{100 * figure.std:.4g}",
                            ]
                            known = [contender.resolution, contender.budget, html_page.start_weights(contender)]
                            own = [tables.dataset, contender.title, *known, contender.device, table.metric, line.name]
                            beside = ["" if value is None else f"{value:.4g}" for value in (cell.published, cell.gap)]
                            writer.writerow([*own, *scores, figure.seeds, *beside])
