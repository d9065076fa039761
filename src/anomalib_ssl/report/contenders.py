# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is compared: a model with all its settings, over categories and seeds. Different settings are never averaged."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd

from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.report.reading import NUMBERS, Result

IMMATERIAL = {"num_workers", "eval_batch_size"}
"""Arguments of datamodules that change no result."""

LIMITS = {"max_updates", "max_epochs", "max_steps", "for"}
"""Arguments that are budgets, and how titles name one in minutes."""

GROUPS = {
    (False, False): "Random weights at the start",
    (False, True): "Pretrained weights",
    (False, None): "Start weights not recorded",
    (True, False): "Transductive (saw unlabelled test images), random weights at the start",
    (True, True): "Transductive (saw unlabelled test images), pretrained weights",
    (True, None): "Transductive (saw unlabelled test images), start weights not recorded",
}
"""Headings by (transductive, pretrained), in the order of tables."""


class Score(NamedTuple):
    """A figure of a table; not a number where there is none.

    Args:
        mean: Mean over runs.
        std: Standard deviation over runs (of a sample, with n - 1).
        runs: Number of runs that lack no category, at least 1: of seeds, if each ran once.
    """

    mean: float
    std: float
    runs: int


@dataclass(frozen=True)
class Contender:
    """A model with its settings on one data set.

    Args:
        title: How tables call it: its label, or its class and the arguments that tell it from others of this class.
        name: The same without its budget.
        results: Its results.
    """

    title: str
    name: str
    results: tuple[Result, ...]

    @property
    def row(self) -> Row:
        """One of its rows, for the settings that all of them share."""
        return self.results[0].row

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments given to the model."""
        return dict(json.loads(self.row.model_args or "{}"))

    @property
    def group(self) -> tuple[bool, bool | None]:
        """Whether it is transductive, whether it is pretrained."""
        return bool(self.row.transductive), self.row.pretrained

    @property
    def device(self) -> str | None:
        """Where it ran."""
        return self.row.device or self.row.accelerator

    @property
    def scored_by(self) -> dict[str, list[str]]:
        """How its runs made scores and heat maps, where that is recorded, and of which categories."""
        ways: dict[str, list[str]] = {}
        for category, way in sorted(
            {(result.row.category or "", result.row.scored_by or "") for result in self.results}
        ):
            if way:
                ways.setdefault(way, []).append(category)
        return ways

    @cached_property
    def runs(self) -> pd.DataFrame:
        """Its numbers by seed, number of the run with this seed, and category."""
        columns = ("seed", *NUMBERS)
        runs = pd.DataFrame([{name: getattr(result.row, name) for name in columns} for result in self.results])
        runs["category"] = [result.row.category or "" for result in self.results]
        # Several machines may have run the same seed.
        runs["repeat"] = runs.groupby(["seed", "category"]).cumcount()
        runs["minutes"] = runs["training_duration"].astype(float).fillna(runs["fit_duration"].astype(float)) / 60
        if runs["throughput_batch_size"].nunique() > 1:  # speeds in batches of several sizes have no mean
            runs["images_per_second_n"] = math.nan
        return runs.astype(dict.fromkeys(NUMBERS, float))

    def score(self, metric: str, categories: Sequence[str]) -> Score:
        """Average a metric over runs, then over categories.

        The deviation is that of the means of those runs that lack no category.

        Returns:
            No number unless every category has a value.
        """
        values = self.values(metric, categories)
        means = pd.Series(values.to_numpy().mean(axis=1)).dropna()
        return Score(values.mean().mean(skipna=False), means.std(), max(len(means), 1))

    def values(self, metric: str, categories: Sequence[str]) -> pd.DataFrame:
        """Look up a metric by run and category; not a number where a run lacks the category."""
        return self._by_category.reindex(columns=[(metric, category) for category in categories])

    @cached_property
    def _by_category(self) -> pd.DataFrame:
        return self.runs.pivot(index=["seed", "repeat"], columns="category", values=list(METRICS))


def contenders(results: Iterable[Result]) -> dict[str, list[Contender]]:
    """Sort successful results by data set and settings.

    Returns:
        Contenders by data set: inductive before transductive, random weights before pretrained ones, budgets in minutes
        from small to large and by name, others as they came.
    """
    found: dict[str, dict[tuple[object, ...], list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        if result.row.status == "ok":
            found[result.row.dataset][_settings(result.row)].append(result)
    sets = {}
    for dataset, groups in found.items():
        rows = [group[0].row for group in groups.values()]
        named = zip(_titles(rows), _titles(rows, LIMITS), map(tuple, groups.values()), strict=True)
        sets[dataset] = sorted((Contender(*each) for each in named), key=_place)
    return sets


def _place(contender: Contender) -> tuple[int, float, str]:
    limit = minutes(contender.row)
    return list(GROUPS).index(contender.group), limit, contender.name if limit else ""


def minutes(row: Row) -> float:
    """Read a budget in minutes; 0 if it is given in anything else."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) minutes?", row.budget or "")
    return float(found[1]) if found else 0.0


def _settings(row: Row) -> tuple[object, ...]:
    """Everything but category and seed that may change a result, or its speed."""
    return (
        row.model,
        row.label,
        row.model_args,
        json.dumps(_data(row), sort_keys=True),
        row.trainer_args,
        bool(row.transductive),
        row.pretrained,
        row.resolution,
        row.budget,
        row.precision,
        row.accelerator,
        row.device,
        row.anomalib,
        row.anomalib_ssl,
    )


def _data(row: Row) -> dict[str, Any]:
    return {name: value for name, value in json.loads(row.data_args or "{}").items() if name not in IMMATERIAL}


def _titles(rows: Sequence[Row], hidden: Collection[str] = ()) -> list[str]:
    """Name contenders by label or class, and by what tells them from others of this name and is not hidden."""
    names = [row.label or row.model for row in rows]
    given = [{key: text for key, text in _given(row).items() if key not in hidden} for row in rows]
    titles = []
    for name, own in zip(names, given, strict=True):
        alike = [other for other, its in zip(given, names, strict=True) if its == name]
        different = [f"{key} {text}" for key, text in own.items() if any(other.get(key) != text for other in alike)]
        titles.append(f"{name} ({', '.join(different)})" if different else name)
    return titles


def _given(row: Row) -> dict[str, str]:
    arguments = [_data(row), json.loads(row.trainer_args or "{}"), json.loads(row.model_args or "{}")]
    given = {name: str(value) for part in arguments for name, value in part.items()}
    given |= {"for": row.budget or ""} if minutes(row) else {}
    places = {"on": row.device or row.accelerator, "anomalib": row.anomalib, "anomalib-ssl": row.anomalib_ssl}
    return given | {name: value for name, value in places.items() if value}
