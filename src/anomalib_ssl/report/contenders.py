# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is compared: a model with all its settings, over categories and seeds. Different settings are never averaged."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any, NamedTuple

from anomalib_ssl.comparison.row import Row
from anomalib_ssl.report.reading import Result

IMMATERIAL = {"num_workers", "eval_batch_size"}
"""Arguments of datamodules that change no result."""

GROUPS = {
    (False, False): "Random weights at the start",
    (False, True): "Pretrained weights",
    (False, None): "Start weights not recorded",
    (True, False): "Transductive (saw unlabelled test images), random weights at the start",
    (True, True): "Transductive (saw unlabelled test images), pretrained weights",
    (True, None): "Transductive (saw unlabelled test images), start weights not recorded",
}
"""Headings by (transductive, pretrained), in the order of tables."""


class Figure(NamedTuple):
    """A figure of a table.

    Args:
        mean: Mean over seeds.
        std: Standard deviation over seeds (of a sample, with n - 1); None for a single one.
        seeds: Number of seeds.
    """

    mean: float
    std: float | None
    seeds: int


@dataclass(frozen=True)
class Contender:
    """A model with its settings on one data set.

    Args:
        title: How tables call it: its label, or its class and the arguments that tell it from others of this class.
        rows: Its results.
        pictures: Folders of pictures by job.
    """

    title: str
    rows: tuple[Row, ...]
    pictures: dict[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """Name of the class."""
        return self.rows[0].model

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments given to the model."""
        return dict(json.loads(self.rows[0].model_args or "{}"))

    @property
    def group(self) -> tuple[bool, bool | None]:
        """Whether it is transductive, whether it is pretrained."""
        return bool(self.rows[0].transductive), self.rows[0].pretrained

    @property
    def resolution(self) -> str | None:
        """Size of the images the network sees."""
        return self.rows[0].resolution

    @property
    def budget(self) -> str | None:
        """What ended training."""
        return self.rows[0].budget

    @property
    def device(self) -> str | None:
        """Where it ran."""
        return self.rows[0].device or self.rows[0].accelerator

    @property
    def categories(self) -> set[str]:
        """Categories with a result."""
        return {row.category or "" for row in self.rows}

    @property
    def seeds(self) -> list[int]:
        """Seeds of its results."""
        return sorted({row.seed for row in self.rows})

    def figure(self, column: str, category: str) -> Figure | None:
        """Average a column over the seeds of a category; None where there is no value."""
        return _figure(
            [value for row in self.rows if row.category == (category or None) for value in _value(row, column)]
        )

    def mean(self, column: str, categories: Sequence[str]) -> Figure | None:
        """Average a column over categories, then over seeds.

        The deviation is that of the seeds' means. Seeds that lack a category do not count; if all do, the categories'
        own means are averaged, without a deviation.

        Returns:
            None unless every category has a value.
        """
        by_seed: dict[int, dict[str, float]] = defaultdict(dict)
        for row in self.rows:
            for value in _value(row, column):
                by_seed[row.seed][row.category or ""] = value
        complete = [values for values in by_seed.values() if set(categories) <= set(values)]
        if complete and categories:
            return _figure([fmean(values[category] for category in categories) for values in complete])
        figures = [self.figure(column, category) for category in categories]
        known = [figure.mean for figure in figures if figure is not None]
        return Figure(fmean(known), None, 1) if known and len(known) == len(figures) else None

    def average(self, column: str) -> float | None:
        """Average a column over everything there is, for figures that are no scores: times, memory."""
        values = [value for row in self.rows for value in _value(row, column)]
        return fmean(values) if values else None


def contenders(results: Iterable[Result]) -> dict[str, list[Contender]]:
    """Sort successful results by data set and settings.

    Returns:
        Contenders by data set: inductive before transductive, random weights before pretrained ones, then as they came.
    """
    found: dict[str, dict[tuple[object, ...], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.row.status == "ok":
            found[result.row.dataset][_settings(result.row)].append(result)
    sets = {}
    for dataset, groups in found.items():
        members = [[result.row for result in group] for group in groups.values()]
        listed = [
            Contender(title, tuple(rows), {result.row.job: result.pictures for result in group})
            for title, rows, group in zip(_titles(members), members, groups.values(), strict=True)
        ]
        sets[dataset] = sorted(listed, key=lambda contender: list(GROUPS).index(contender.group))
    return sets


def _settings(row: Row) -> tuple[object, ...]:
    """Everything but category and seed that may change a result, or its speed."""
    data = {name: value for name, value in json.loads(row.data_args or "{}").items() if name not in IMMATERIAL}
    return (
        row.model,
        row.label,
        row.model_args,
        json.dumps(data, sort_keys=True),
        row.trainer_args,
        bool(row.transductive),
        row.pretrained,
        row.resolution,
        row.budget,
        row.precision,
        row.accelerator,
        row.device,
    )


def _titles(groups: Sequence[Sequence[Row]]) -> list[str]:
    """Name groups of rows by label or class, and by what tells them from others of this name."""
    first = [group[0] for group in groups]
    names = [row.label or row.model for row in first]
    titles = []
    for row, name in zip(first, names, strict=True):
        alike = [other for other, its in zip(first, names, strict=True) if its == name]
        arguments = [json.loads(other.model_args or "{}") for other in alike]
        own = json.loads(row.model_args or "{}")
        different = [key for key in own if any(others.get(key) != own[key] for others in arguments)]
        details = ", ".join(f"{key} {own[key]}" for key in different)
        titles.append(f"{name} ({details})" if details else name)
    return titles


def _value(row: Row, column: str) -> list[float]:
    value = getattr(row, column)
    return [] if value is None else [float(value)]


def _figure(values: Sequence[float]) -> Figure | None:
    if not values:
        return None
    return Figure(fmean(values), stdev(values) if len(values) > 1 else None, len(values))
