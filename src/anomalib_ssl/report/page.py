# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Everything a report shows, gathered once for all formats."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.report import formatting
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.gallery import Gallery, galleries
from anomalib_ssl.report.published import MEANS, Published, published
from anomalib_ssl.report.reading import Result
from anomalib_ssl.report.tables import Tables, dataset_tables

MEANINGS = {
    "AUROC, AP, AUPRO": "measured on raw scores and maps, not on anomalib's normalised and clamped ones",
    "image AUROC": "area under the receiver operating characteristic of image scores",
    "image AP": "average precision of image scores",
    "image F1": "F1 score of image labels at anomalib's threshold, set on the validation images, which are the test "
    "images unless the datamodule splits them",
    "pixel AUROC": "area under the receiver operating characteristic of all pixels of all test images",
    "AUPRO": "area under the per-region overlap, up to a false positive rate of 0.3",
    "pixel F1": "F1 score of pixels at anomalib's threshold",
    "images/s": "images scored per second, maps included; neither reading nor resizing of files",
    "minutes": "of training, from the first to the last update without validations, mean over jobs; of the whole fit "
    "where there is no update or they were not recorded",
    "fit": "time of training, validation included, mean over jobs",
    "memory": "largest memory during fit and test: on a GPU what PyTorch allocated, on a CPU the resident memory of "
    "the whole process, libraries and what earlier jobs left included",
}
"""What figures mean."""

STOCK = {"tables of anomalib benchmark": "their AUROC, AP and AUPRO are of normalised and clamped scores and maps"}
"""What is different where such a table is among the results."""


@dataclass(frozen=True)
class Listing:
    """A plain table.

    Args:
        name: Its anchor on the page.
        title: Its heading.
        note: What a reader should know.
        head: Names of the columns, and whether they hold text.
        lines: The cells.
    """

    name: str
    title: str
    note: str
    head: list[tuple[str, bool]]
    lines: list[list[str]]


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: Its heading.
        datasets: Tables of each data set.
        galleries: Cases of each data set.
        listings: Published figures that stand in a table or belong to a model that does; jobs that failed and were not
            done later.
        facts: What the results depend on, by what it is.
        notes: What else a reader should know, such as what ran beside.
    """

    title: str
    datasets: tuple[Tables, ...]
    galleries: dict[str, list[Gallery]]
    listings: tuple[Listing, ...]
    facts: dict[str, str]
    notes: tuple[str, ...]


def make_page(results: Sequence[Result], title: str, cases: int, notes: Sequence[str] = ()) -> Page:
    """Gather tables, cases and facts.

    Args:
        results: What was read.
        title: Heading.
        cases: Number of best and of worst cases per category.
        notes: What else a reader should know.
    """
    datasets = tuple(dataset_tables(dataset, members) for dataset, members in contenders(results).items())
    rows = [result.row for result in results]
    done = {row.job for row in rows if row.status == "ok"}
    rows = [row for row in rows if row.status == "ok" or row.job not in done]
    models = {(tables.dataset, contender.row.model) for tables in datasets for contender in tables.contenders}
    listings = (
        _sources([entry for entry in published() if (entry.dataset, entry.model) in models]),
        _failed([row for row in rows if row.status == "failed"]),
    )
    return Page(
        title=title,
        datasets=datasets,
        galleries={tables.dataset: galleries(tables.contenders, tables.categories, cases) for tables in datasets},
        listings=tuple(listing for listing in listings if listing.lines),
        facts=_facts(rows) | (STOCK if any(result.stock for result in results) else {}),
        notes=tuple(notes),
    )


def _sources(entries: Iterable[Published]) -> Listing:
    note = (
        "In percent, each as its source gives it. A gap is measured less published, over the same categories; "
        "resolution, budget and start weights of the two may differ. What is not known is left blank."
    )
    lines = [
        [
            entry.title,
            METRICS.get(entry.metric or "", "not stated"),
            *(formatting.number(entry.values.get(name)) for name in MEANS),
            entry.source + (f"; {entry.note}" if entry.note else ""),
        ]
        for entry in entries
    ]
    head = [("method", True), ("metric", True), *((name, False) for name in MEANS), ("source", True)]
    return Listing("sources", "Published figures", note, head, lines)


def _failed(rows: Iterable[Row]) -> Listing:
    lines = [
        [row.label or row.model, f"{row.dataset} {row.category or ''}", str(row.seed), row.error or ""] for row in rows
    ]
    head = [("model", True), ("data", True), ("seed", False), ("error", True)]
    return Listing("failed", "Failed jobs", "", head, lines)


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    done = sum(row.status == "ok" for row in rows)
    days = sorted(day[0] for row in rows if (day := re.match(r"\d{4}-\d\d-\d\d", row.started or "")))
    seconds = sum(row.job_duration or 0 for row in rows)
    facts = {
        "jobs": f"{done} done" + (f", {len(rows) - done} failed" if done < len(rows) else ""),
        "measured": " to ".join(dict.fromkeys((days[0], days[-1]))) if days else "",
        "device": _listed(row.device or row.accelerator for row in rows),
        "time of all jobs": formatting.duration(seconds) if seconds else "",
    }
    for name in ("anomalib", "anomalib_ssl", "torch", "python", "commit"):
        facts[name.replace("_", "-")] = _listed(getattr(row, name) for row in rows)
    return {name: text for name, text in facts.items() if text}


def _listed(values: Iterable[str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in values if value))
