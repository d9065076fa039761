# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Everything a report shows, gathered once for all formats."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from anomalib_ssl.comparison.row import Row
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.gallery import Gallery, galleries
from anomalib_ssl.report.published import Published, published
from anomalib_ssl.report.reading import Result
from anomalib_ssl.report.tables import DatasetTables, dataset_tables

MEANINGS = {
    "image AUROC": "area under the receiver operating characteristic of image scores",
    "image AP": "average precision of image scores",
    "image F1": "F1 score of image labels at anomalib's threshold, set on the validation images, which are the test "
    "images unless the datamodule splits them",
    "pixel AUROC": "area under the receiver operating characteristic of all pixels of all test images",
    "AUPRO": "area under the per-region overlap, up to a false positive rate of 0.3",
    "pixel F1": "F1 score of pixels at anomalib's threshold",
    "images/s": "images scored per second, maps included; neither reading nor resizing of files",
    "fit": "seconds of training, validation included, mean over jobs",
    "memory": "largest memory during fit and test: on a GPU what PyTorch allocated, on a CPU the resident memory of "
    "the whole process, libraries included",
}
"""What figures mean."""


@dataclass(frozen=True)
class Page:
    """A report.

    Args:
        title: Its heading.
        datasets: Tables of each data set.
        galleries: Cases of each data set.
        failed: Jobs that failed and were not done later.
        facts: What the results depend on, by what it is.
        notes: What else a reader should know, such as what ran beside.
        sources: Published figures that stand in a table, or belong to a model that does.
    """

    title: str
    datasets: tuple[DatasetTables, ...]
    galleries: dict[str, list[Gallery]]
    failed: tuple[Row, ...]
    facts: dict[str, str]
    notes: tuple[str, ...]
    sources: tuple[Published, ...]


def make_page(results: Sequence[Result], title: str, cases: int, notes: Sequence[str] = ()) -> Page:
    """Gather tables, cases and facts.

    Args:
        results: What was read.
        title: Heading.
        cases: Number of best and of worst cases per category.
        notes: What else a reader should know.
    """
    sets = {dataset: dataset_tables(dataset, members) for dataset, members in contenders(results).items()}
    models = {(dataset, contender.model) for dataset, tables in sets.items() for contender in tables.contenders}
    return Page(
        title=title,
        datasets=tuple(sets.values()),
        galleries={dataset: galleries(tables.contenders, tables.categories, cases) for dataset, tables in sets.items()},
        failed=tuple(result.row for result in results if result.row.status == "failed"),
        facts=_facts([result.row for result in results]),
        notes=tuple(notes),
        sources=tuple(entry for entry in published() if (entry.dataset, entry.model) in models),
    )


def _facts(rows: Sequence[Row]) -> dict[str, str]:
    done = sum(row.status == "ok" for row in rows)
    facts = {"jobs": f"{done} done" + (f", {len(rows) - done} failed" if done < len(rows) else "")}
    days = sorted(row.started[:10] for row in rows if row.started)
    if days:
        facts["measured"] = days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"
    facts["device"] = _listed(row.device or row.accelerator for row in rows)
    seconds = sum(row.job_duration or 0 for row in rows)
    if seconds:
        facts["time of all jobs"] = str(datetime.timedelta(seconds=round(seconds)))
    for name in ("anomalib", "anomalib_ssl", "torch", "python", "commit"):
        facts[name.replace("_", "-")] = _listed(getattr(row, name) for row in rows)
    return {name: value for name, value in facts.items() if value}


def _listed(values: object) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value))  # type: ignore[attr-defined]
