# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The plots of a report, drawn once: as files, and as SVG that follows the colours of the page."""

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from anomalib_ssl.report import formatting
from anomalib_ssl.report.contenders import Contender
from anomalib_ssl.report.tables import DatasetTables, MetricTable

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c3e", "#6b6f76")
"""Colours of contenders, after Okabe and Ito, which colour-blind people tell apart; then markers differ."""

MARKERS = "osD^vPX*"
INK, MUTED, GRID, PAPER = "#1b1d21", "#62676f", "#dcdee2", "#fefefe"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"} | {
    colour: f"series-{index}" for index, colour in enumerate(SERIES)
}
"""Colours, and the variables of the page's style that take their place."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "anomalib-ssl",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}
LINE = 0.055
"""Height of a name, as a share of the plot."""

Box = tuple[float, float, float, float]

CHANCE = {"image_AUROC": 50.0, "pixel_AUROC": 50.0}
"""Percentages that guessing reaches; bars start there."""


def colour(index: int) -> str:
    """Choose the colour of a contender by its place in the overview."""
    return SERIES[index % len(SERIES)]


def accuracy_and_speed(tables: DatasetTables, metric: str) -> Figure | None:
    """Plot a mean score against images per second in batches.

    Returns:
        None if fewer than two contenders have both.
    """
    table = next((entry for entry in tables.metrics if entry.metric == metric), None)
    points = []
    for index, line in enumerate(tables.overview):
        speed, mean = line.contender.average("images_per_second_n"), line.scores.get(metric)
        if speed and mean is not None:
            points.append((speed, 100 * mean.mean, index, line.contender))
    if table is None or len(points) < 2:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        axes = figure.add_subplot()
        for speed, score, index, _ in points:
            marker = MARKERS[index // len(SERIES) % len(MARKERS)] if len(points) > len(SERIES) else MARKERS[index % 8]
            axes.plot(speed, score, marker, color=colour(index), markersize=7.5, markeredgecolor=PAPER, zorder=3)
        axes.set_xscale("log")
        _limits(axes, points)
        _name_points(axes, points)
        axes.set_xlabel("images per second, in batches")
        axes.set_ylabel(f"mean {table.title}, %")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else ""))
        axes.tick_params(axis="x", which="minor", labelsize=8, labelcolor=MUTED)
    return figure


def category_bars(table: MetricTable) -> Figure:
    """Plot each category's scores as bars beside each other, whiskers for the deviation over seeds."""
    lines = [line for line in table.lines if not line.is_mean]
    count = len(table.contenders)
    base = CHANCE.get(table.metric, 0.0)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(5.2, 1.0 + len(lines) * (0.08 * count + 0.19)), 3.0), layout="constrained")
        axes = figure.add_subplot()
        for index in range(count):
            places, values, errors = [], [], []
            for place, line in enumerate(lines):
                cell = line.cells[index].figure
                if cell is not None:
                    places.append(place + 0.8 * ((index + 0.5) / count - 0.5))
                    values.append(100 * cell.mean)
                    errors.append(100 * (cell.std or 0))
            heights = [value - base for value in values]
            axes.bar(places, heights, 0.8 / count * 0.88, bottom=base, color=colour(index), linewidth=0)
            if any(errors):
                axes.errorbar(places, values, errors, fmt="none", ecolor=INK, elinewidth=0.8)
        axes.axhline(base, color=MUTED, linewidth=0.8)
        axes.set_xticks(range(len(lines)), [formatting.category_name(line.name) for line in lines])
        if len(lines) > 8:
            axes.tick_params(axis="x", labelsize=8)
        axes.set_xlim(-0.55, len(lines) - 0.45)
        axes.set_ylim(top=101)
        axes.grid(visible=False, axis="x")
        axes.spines["bottom"].set_visible(False)
        axes.set_ylabel(f"{table.title}, %" + (" (50: chance)" if base else ""))
    return figure


def legend(contenders: Sequence[Contender]) -> Figure:
    """Draw the colours of the contenders, for plots that stand alone."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.1 + 0.22 * len(contenders)))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set_xlim(0, 5.2)
        axes.set_ylim(len(contenders) - 0.4, -0.6)
        for index, contender in enumerate(contenders):
            axes.plot(0.15, index, "s", color=colour(index), markersize=8)
            axes.text(0.32, index, contender.title, va="center")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a plot as PNG and as SVG, on white.

    Args:
        figure: The plot.
        path: Without the ending.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path.with_suffix(".png"), dpi=160, facecolor="white", metadata={"Software": None})
        figure.savefig(path.with_suffix(".svg"), facecolor="white", metadata={"Date": None, "Creator": None})


def inline(figure: Figure, description: str) -> str:
    """Write a plot as SVG for a page: its colours are variables of the page's style, its background is none.

    Args:
        figure: The plot.
        description: What it shows, for those who do not see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    for value, variable in VARIABLES.items():
        text = text.replace(value, f"var(--{variable})")
    # Names of parts repeat from plot to plot; those of clip paths and markers are made of contents, and may be shared.
    text = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", text)
    label = description.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _limits(axes: Axes, points: Sequence[tuple[float, float, int, Contender]]) -> None:
    speeds, scores = [point[0] for point in points], [point[1] for point in points]
    axes.set_xlim(min(speeds) / 1.8, max(speeds) * 1.8)
    spread = max(max(scores) - min(scores), 2.0)
    axes.set_ylim(min(scores) - 0.15 * spread, max(scores) + 0.15 * spread)


def _name_points(axes: Axes, points: Sequence[tuple[float, float, int, Contender]]) -> None:
    """Write names beside points where neither a marker nor another name is; a line leads to those that had to move."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    spots = [(math.log(point[0] / left) / math.log(right / left), (point[1] - low) / (high - low)) for point in points]
    taken = [(x - 0.015, y - 0.025, x + 0.015, y + 0.025) for x, y in spots]
    for (x, y), (speed, score, _, contender) in sorted(zip(spots, points, strict=True), key=lambda pair: -pair[0][1]):
        width = 0.0155 * len(contender.title)
        places = [
            (start, y + step * LINE)
            for step in (0, 1, -1, 2, -2, 3, -3, 4, -4)
            for start in (x + 0.028, x - 0.028 - width)
            if start >= 0 and start + width <= 1
        ]
        boxes = [(start, middle - LINE / 2, start + width, middle + LINE / 2) for start, middle in places]
        free = [box for box in boxes if box[1] >= 0 and not any(_overlap(box, other) for other in taken)]
        box = (free or boxes or [(x + 0.028, y - LINE / 2, x + 0.028 + width, y + LINE / 2)])[0]
        taken.append(box)
        middle = (box[1] + box[3]) / 2
        moved = abs(middle - y) > LINE / 2
        axes.annotate(
            contender.title,
            (speed, score),
            (box[0] if box[0] > x else box[2], middle),
            textcoords="axes fraction",
            ha="left" if box[0] > x else "right",
            va="center",
            fontsize=8.5,
            color=INK,
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "shrinkB": 4} if moved else None,
        )


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
