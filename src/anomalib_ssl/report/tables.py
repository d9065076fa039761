# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The tables of a report as plain data, the same for every format."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pandas as pd

from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import noise
from anomalib_ssl.report.contenders import Contender, minutes
from anomalib_ssl.report.published import Published, beside

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = ("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper")
"""Categories of MVTec AD, split as its authors do."""

COLUMNS = ("metric", "line", "name", "is_mean", "column", "mean", "std", "runs", "published")


@dataclass(frozen=True)
class Tables:
    """All tables of a data set.

    Args:
        dataset: Its name.
        contenders: The columns of the tables.
        categories: The categories of all contenders in their order.
        scores: A cell in each row: ``line`` is a category or, where ``is_mean``, a mean over some, of this ``name``;
            ``mean`` and ``std`` over ``runs`` lie in [0, 1], as does the interval of a mean from ``low`` to ``high``;
            what is ``published`` and the ``gap`` are in percent; ``best`` marks the leaders of a line among contenders
            of the same group, resolution and budget in minutes.
    """

    dataset: str
    contenders: tuple[Contender, ...]
    categories: tuple[str, ...]
    scores: pd.DataFrame

    @property
    def metrics(self) -> list[str]:
        """The metrics that any contender has."""
        return list(self.scores["metric"].unique())

    @property
    def marks(self) -> list[str]:
        """A number for each contender whose trained networks others have too, the same for all of them."""
        weights = [
            {(result.folder, result.row.weights) for result in each.results if result.row.weights}
            for each in self.contenders
        ]
        first = [next((place for place, other in enumerate(weights) if own & other), -1) for own in weights]
        shared = [place for place in dict.fromkeys(first) if place >= 0 and first.count(place) > 1]
        return [f"[{1 + shared.index(place)}]" if place in shared else "" for place in first]

    def lines(self, metric: str) -> list[tuple[str, bool, list[Any]]]:
        """List the lines of a metric's table: name, whether it is a mean, and a cell for each contender.

        The last line is that of all categories.
        """
        lines = self.scores[self.scores["metric"] == metric].groupby(["line", "name", "is_mean"])
        return [(name, is_mean, list(cells.itertuples())) for (_, name, is_mean), cells in lines]

    def overview(self) -> list[tuple[Contender, list[Any]]]:
        """List all contenders with their cells of all categories in each metric."""
        columns = [self.lines(metric)[-1][2] for metric in self.metrics]
        return [(contender, [cells[index] for cells in columns]) for index, contender in enumerate(self.contenders)]

    def has_published(self, metric: str) -> list[bool]:
        """Whether published figures are known for any category of each column, and not for means alone."""
        cells = self.scores[(self.scores["metric"] == metric) & ~self.scores["is_mean"]]
        return list(cells.groupby("column")["published"].count() > 0)


def dataset_tables(dataset: str, contenders: Sequence[Contender]) -> Tables:
    """Make the tables of a data set: categories, then means over textures, objects and all.

    Args:
        dataset: Its name.
        contenders: What is compared on it.
    """
    categories = ordered({category for contender in contenders for category in contender.runs["category"]})
    lines = [(name, [name], False) for name in categories]
    lines += [(name, members, True) for name, members in mean_lines(dataset, categories)]
    cells = []
    for metric in [name for name in METRICS if any(contender.runs[name].notna().any() for contender in contenders)]:
        others = [beside(contender, dataset, metric) for contender in contenders]
        for line, (name, members, is_mean) in enumerate(lines):
            for column, (contender, other) in enumerate(zip(contenders, others, strict=True)):
                score, known = contender.score(metric, members), _published_mean(other, name, members)
                cells.append((metric, line, name, is_mean, column, *score, known))
    scores = pd.DataFrame(cells, columns=COLUMNS).assign(low=math.nan, high=math.nan, best=False)
    scores["gap"] = 100 * scores["mean"] - scores["published"]
    settings = [repr((each.group, each.row.resolution, minutes(each.row))) for each in contenders]
    for (metric, line), known in scores.dropna(subset="mean").groupby(["metric", "line"]):
        members = lines[line][1]
        draws = noise.resample([contenders[column].values(metric, members).to_numpy().T for column in known["column"]])
        if len(members) > 2:  # of two, an interval says nothing
            scores.loc[known.index, ["low", "high"]] = noise.interval(draws, len(members)).clip(0, 1).T
        for places in known.groupby(known["column"].map(settings.__getitem__)).indices.values():
            rivals = known.iloc[places]
            units = len(members) if len(members) > 1 else rivals["runs"].min()
            scores.loc[rivals.index, "best"] = noise.leaders(rivals["mean"].to_numpy(), draws[places], units)
    return Tables(dataset, tuple(contenders), tuple(categories), scores)


def mean_lines(dataset: str, categories: Sequence[str]) -> list[tuple[str, list[str]]]:
    """List the means of a data set: textures, objects and all of MVTec AD, or all alone."""
    textures = [category for category in categories if category in TEXTURES]
    objects = [category for category in categories if category in OBJECTS]
    split = dataset == "MVTecAD" and textures and objects and len(textures) + len(objects) == len(categories)
    lines = [("texture", textures), ("object", objects)] if split else []
    return [*lines, ("mean", list(categories))] if len(categories) > 1 else []


def ordered(categories: set[str]) -> list[str]:
    """Put categories in order: those of MVTec AD as in its tables, then others by name."""
    canonical = [*TEXTURES, *OBJECTS]
    return sorted(categories, key=lambda name: (canonical.index(name) if name in canonical else len(canonical), name))


def _published_mean(entry: Published | None, name: str, members: Sequence[str]) -> float:
    """The published mean over just these categories: as it stands for all, or made of the published parts."""
    values = entry.values if entry else {}
    complete = {"texture": {*TEXTURES}, "object": {*OBJECTS}, "mean": {*TEXTURES, *OBJECTS}}
    if set(members) == complete.get(name) and name in values:
        return values[name]
    return fmean(values[member] for member in members) if set(members) <= set(values) else math.nan
