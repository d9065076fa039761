# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The tables of a report as plain data, the same for every format."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report.contenders import Contender, Figure
from anomalib_ssl.report.published import Published, beside

TEXTURES = ("carpet", "grid", "leather", "tile", "wood")
OBJECTS = (
    "bottle",
    "cable",
    "capsule",
    "hazelnut",
    "metal_nut",
    "pill",
    "screw",
    "toothbrush",
    "transistor",
    "zipper",
)
"""Categories of MVTec AD, split as its authors do."""


@dataclass(frozen=True)
class Cell:
    """A figure beside the published one.

    Args:
        figure: Ours in [0, 1]; None if there is none.
        published: The published one in percent; None if there is none, or it is not known.
        best: Whether it is the best of its line among contenders of the same group and resolution.
    """

    figure: Figure | None
    published: float | None = None
    best: bool = False

    @property
    def gap(self) -> float | None:
        """Ours less the published one, in percent points."""
        if self.figure is None or self.published is None:
            return None
        return 100 * self.figure.mean - self.published


@dataclass(frozen=True)
class Line:
    """A line of a metric's table: a category, or a mean over categories."""

    name: str
    is_mean: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MetricTable:
    """All contenders on all categories in one metric.

    Args:
        metric: Name of the metric.
        contenders: The columns.
        published: What stands beside each column.
        lines: The lines.
    """

    metric: str
    contenders: tuple[Contender, ...]
    published: tuple[Published | None, ...]
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """The metric in words."""
        return METRICS[self.metric]


@dataclass(frozen=True)
class OverviewLine:
    """A contender's means over all categories, and what it costs."""

    contender: Contender
    scores: dict[str, Figure | None]
    best: frozenset[str]
    covered: int
    """Categories it has results for; means are given for all categories or not at all."""


@dataclass(frozen=True)
class DatasetTables:
    """All tables of a data set."""

    dataset: str
    categories: tuple[str, ...]
    overview: tuple[OverviewLine, ...]
    metrics: tuple[MetricTable, ...]

    @property
    def contenders(self) -> tuple[Contender, ...]:
        """All contenders in the order of the overview."""
        return tuple(line.contender for line in self.overview)


def dataset_tables(dataset: str, contenders: Sequence[Contender]) -> DatasetTables:
    """Make the tables of a data set.

    Args:
        dataset: Its name.
        contenders: What is compared on it.
    """
    categories = ordered({category for contender in contenders for category in contender.categories})
    known = [metric for metric in METRICS if any(_any(contender, metric, categories) for contender in contenders)]
    overview = []
    for contender in contenders:
        scores = {metric: contender.mean(metric, categories) for metric in known}
        overview.append(OverviewLine(contender, scores, frozenset(), len(set(categories) & contender.categories)))
    marked = [
        OverviewLine(
            line.contender,
            line.scores,
            frozenset(
                metric for metric in known if _is_best(index, [other.scores[metric] for other in overview], contenders)
            ),
            line.covered,
        )
        for index, line in enumerate(overview)
    ]
    metrics = tuple(metric_table(metric, dataset, contenders, categories) for metric in known)
    return DatasetTables(dataset, tuple(categories), tuple(marked), metrics)


def metric_table(metric: str, dataset: str, contenders: Sequence[Contender], categories: Sequence[str]) -> MetricTable:
    """Make the table of a metric: categories, then means over textures, objects and all."""
    others = tuple(beside(contender, dataset, metric) for contender in contenders)
    lines = []
    for category in categories:
        figures = [contender.figure(metric, category) for contender in contenders]
        values = [entry.values.get(category) if entry else None for entry in others]
        lines.append(_line(category, False, figures, values, contenders))
    for name, members in mean_lines(dataset, categories):
        figures = [contender.mean(metric, members) for contender in contenders]
        values = [_published_mean(entry, name, members) if entry else None for entry in others]
        lines.append(_line(name, True, figures, values, contenders))
    return MetricTable(metric, tuple(contenders), others, tuple(lines))


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


def _line(
    name: str,
    is_mean: bool,
    figures: Sequence[Figure | None],
    values: Sequence[float | None],
    contenders: Sequence[Contender],
) -> Line:
    cells = [
        Cell(figure, value, _is_best(index, figures, contenders))
        for index, (figure, value) in enumerate(zip(figures, values, strict=True))
    ]
    return Line(name, is_mean, tuple(cells))


def _published_mean(entry: Published, name: str, members: Sequence[str]) -> float | None:
    """The published mean over just these categories: as it stands for all, or made of the published parts."""
    complete = {"texture": set(TEXTURES), "object": set(OBJECTS), "mean": {*TEXTURES, *OBJECTS}}
    if entry.dataset == "MVTecAD" and set(members) == complete[name] and name in entry.values:
        return entry.values[name]
    if members and all(member in entry.values for member in members):
        return fmean(entry.values[member] for member in members)
    return None


def _is_best(index: int, figures: Sequence[Figure | None], contenders: Sequence[Contender]) -> bool:
    own = figures[index]
    if own is None:
        return False
    setting: Callable[[Contender], object] = lambda contender: (contender.group, contender.resolution)  # noqa: E731
    rivals = [
        figure.mean
        for figure, contender in zip(figures, contenders, strict=True)
        if figure is not None and setting(contender) == setting(contenders[index])
    ]
    return len(rivals) > 1 and round(1000 * own.mean) >= round(1000 * max(rivals))


def _any(contender: Contender, metric: str, categories: Sequence[str]) -> bool:
    return any(contender.figure(metric, category) is not None for category in categories)
