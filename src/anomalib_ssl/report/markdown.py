# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A report as Markdown, for repositories and documentation."""

from collections.abc import Sequence
from pathlib import Path

from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import formatting
from anomalib_ssl.report.contenders import GROUPS, Figure
from anomalib_ssl.report.html_page import described, has_deviations, start_weights
from anomalib_ssl.report.page import MEANINGS, Page
from anomalib_ssl.report.tables import DatasetTables, MetricTable


def render(page: Page, plots: dict[str, list[tuple[str, Path]]]) -> str:
    """Write a report as Markdown.

    Args:
        page: What it shows; a gallery is left out.
        plots: Titles and files of the plots of each data set, relative to the page.
    """
    blocks = [f"# {page.title}", *page.notes, "\n".join(f"* {name}: {value}" for name, value in page.facts.items())]
    for tables in page.datasets:
        blocks += [f"## {tables.dataset}", _lead(tables), _overview(tables)]
        if any(line.best for line in tables.overview):
            blocks.append("Bold: best of its group at its resolution.")
        blocks += [f"![{title}]({path.as_posix()})" for title, path in plots.get(tables.dataset, [])]
        for table in tables.metrics:
            blocks += [f"### {tables.dataset}: {table.title} per category", _metric(table)]
    if page.sources:
        lines = [
            [
                entry.title,
                METRICS.get(entry.metric or "", "not stated"),
                *(formatting.plain(entry.values.get(name)) for name in ("mean", "texture", "object")),
                entry.source + (f"; {entry.note}" if entry.note else ""),
            ]
            for entry in page.sources
        ]
        blocks += [
            "## Published figures",
            "In percent. A gap is measured less published, over the same categories; resolution, budget and start "
            "weights of the two may differ. What is not known is left blank.",
            _table(["method", "metric", "mean", "texture", "object", "source"], lines, text={0, 1, 5}),
        ]
    if page.failed:
        lines = [
            [row.label or row.model, f"{row.dataset} {row.category or ''}", str(row.seed), row.error or ""]
            for row in page.failed
        ]
        blocks += ["## Failed jobs", _table(["model", "data", "seed", "error"], lines, text={0, 1, 3})]
    contenders = [contender for tables in page.datasets for contender in tables.contenders]
    blocks += [
        "## How it was measured",
        "\n".join(f"* {contender.title}: {described(contender)}" for contender in contenders),
        "\n".join(f"* {name}: {meaning}." for name, meaning in MEANINGS.items()),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _lead(tables: DatasetTables) -> str:
    names = ", ".join(formatting.category_name(name) for name in tables.categories)
    text = f"Categories: {names}. Scores in percent, means over categories."
    return text + (" After the sign, standard deviations over seeds." if has_deviations(tables) else "")


def _overview(tables: DatasetTables) -> str:
    costs = formatting.shown_costs(tables.overview)
    head = ["model", "protocol", "resolution", "budget", "seeds", *(table.title for table in tables.metrics), *costs]
    lines = []
    for line in tables.overview:
        missing = len(tables.categories) - line.covered
        lines.append(
            [
                line.contender.title
                + (f" (lacks {missing} of {len(tables.categories)} categories)" if missing else ""),
                GROUPS[line.contender.group],
                formatting.resolution(line.contender),
                formatting.budget(line.contender),
                str(len(line.contender.seeds)),
                *(_score(line.scores[table.metric], table.metric in line.best) for table in tables.metrics),
                *(formatting.COSTS[name](line) for name in costs),
            ]
        )
    return _table(head, lines, text={0, 1})


def _metric(table: MetricTable) -> str:
    head, top = ["category"], []
    for column, contender in enumerate(table.contenders):
        known = formatting.has_published(table, column)
        head += [contender.title, "published", "gap"] if known else [contender.title]
        top.append((known, contender))
    lines = []
    for label, text in (("resolution", formatting.resolution), ("budget", formatting.budget), ("start", start_weights)):
        line = [label]
        for known, contender in top:
            line += [text(contender), "", ""] if known else [text(contender)]
        lines.append(line)
    for entry in table.lines:
        line = [f"**{entry.name}**" if entry.is_mean else formatting.category_name(entry.name)]
        for (known, _), cell in zip(top, entry.cells, strict=True):
            line.append(_score(cell.figure, cell.best))
            if cell.published is not None and not known:
                difference = "" if cell.gap is None else f", gap {formatting.gap(cell.gap)}"
                line[-1] += f" (published {formatting.plain(cell.published)}{difference})"
            line += [formatting.plain(cell.published), formatting.gap(cell.gap)] if known else []
        lines.append(line)
    return _table(head, lines, text={0})


def _score(figure: Figure | None, best: bool) -> str:
    text = formatting.percent(figure)
    if figure is not None and figure.std is not None:
        text += f" ± {formatting.deviation(figure)}"
    return f"**{text}**" if best else text


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], text: set[int]) -> str:
    rule = ["---" if column in text else "---:" for column in range(len(head))]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *lines)
    )
