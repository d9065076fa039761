# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The plots of a report, drawn once: as files, and as SVG that follows the colours of the page."""

import io
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.rcsetup import cycler
from matplotlib.ticker import FuncFormatter

from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import formatting
from anomalib_ssl.report.tables import Tables

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c3e", "#6b6f76")
"""Colours of lines and categories, after Okabe and Ito, which colour-blind people tell apart; then markers differ."""

MARKERS = "osD^vPX*"
INK, MUTED, GRID, PAPER = "#1b1d21", "#62676f", "#dcdee2", "#fefefe"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "line", PAPER: "paper"} | {
    colour: f"series-{index}" for index, colour in enumerate(SERIES)
}
"""Colours, and the variables of the page's style that take their place."""

STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a label may hold dollars
    "svg.fonttype": "none",
    "svg.hashsalt": "anomalib-ssl",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=SERIES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "text.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
}
CHANCE = {"image_AUROC": 50.0, "pixel_AUROC": 50.0}
"""Percentages that guessing reaches."""

SCATTERS = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")
"""Scores that are plotted over minutes and speed, and whose plots a Markdown page shows."""

ACROSS = {"minutes": "minutes of training", "speed": "images per second, in batches"}
"""What they are plotted over, by the ends of names."""

LONGEST = 60
"""Characters of a name in a plot."""

SLOWEST = 1e-9
"""Images per second, or minutes, that a logarithmic axis shows."""

WIDEST = 100.0
"""Inches of a plot; Matplotlib draws no image of more than 65,536 pixels."""


class Plot(NamedTuple):
    """A plot and what it shows, for those who do not see it."""

    title: str
    figure: Figure


def draw(tables: Tables) -> dict[str, Plot]:
    """Draw all plots of a data set, by the ends of their names: ``METRIC_minutes``, ``_speed``, or none."""
    drawn = {
        f"{metric}_{kind}": Plot(f"Mean {METRICS[metric]} of each model over {across}", figure)
        for kind, across in ACROSS.items()
        for metric in SCATTERS
        if metric in tables.metrics and (figure := score_over(tables, metric, kind)) is not None
    }
    for metric in tables.metrics:
        drawn[metric] = Plot(f"{METRICS[metric]} per category", category_dots(tables, metric))
    return drawn


def score_over(tables: Tables, metric: str, kind: str) -> Figure | None:
    """Plot a mean score over minutes or speed: a point for each contender, a line through those that differ in budget.

    Returns:
        None if there are not two points, or, over minutes, no line.
    """
    column = "images_per_second_n" if kind == "speed" else kind
    lines: dict[tuple[str, object, object], list[tuple[float, float, int]]] = defaultdict(list)
    for index, (contender, cell) in enumerate(zip(tables.contenders, tables.lines(metric)[-1][2], strict=True)):
        if (place := contender.runs[column].mean()) > SLOWEST and not math.isnan(cell.mean):
            lines[contender.name, contender.group, contender.row.resolution].append((place, 100 * cell.mean, index))
    points = [point for line in lines.values() for point in line]
    if len(points) < 2 or (kind == "minutes" and len(points) == len(lines)):
        return None
    with mpl.rc_context(STYLE):
        names = max(len(_short(name)) for name, _, _ in lines)
        figure = Figure((5.2 + 0.07 * names, min(max(3.6, 0.2 * len(lines)), WIDEST)), layout="constrained")
        axes = figure.add_subplot(xscale="log")
        ends: list[tuple[float, Line2D]] = []
        for (name, _, _), line in lines.items():
            line.sort(key=lambda point: point[kind == "speed"])  # budgets differ in minutes, or else in scores
            places, scores, indices = zip(*line, strict=True)
            index = min(indices)
            marker = MARKERS[(index // len(SERIES) + index) % len(MARKERS)]
            style: Any = {"c": f"C{index}", "markersize": 7.5, "markeredgecolor": PAPER, "zorder": 3}
            ends += [(scores[-1], *axes.plot(places, scores, f"{marker}-", label=_short(name), **style))]
        # At least a point of percent, so that small differences look small.
        axes.update_datalim([(place, score + step) for place, score, _ in points for step in (-0.5, 0.5)])
        axes.margins(0.1)
        # In the order of where lines end, so that a name is found by its place.
        best_first = [drawn for _, drawn in sorted(ends, key=lambda end: -end[0])]
        figure.legend(handles=best_first, loc="outside right center", frameon=False, fontsize=8.5)
        axes.set_xlabel(ACROSS[kind])
        axes.set_ylabel(f"mean {METRICS[metric]}, %")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        # Of few powers of ten, 2 and 5 are written between them.
        left, right = axes.get_xlim()
        between = "25" if right < 1000 * left else "_"
        axes.xaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in between else "")
        )
        axes.tick_params(axis="x", which="minor", labelsize=8, labelcolor=MUTED)
    return figure


def category_dots(tables: Tables, metric: str) -> Figure:
    """Plot a line of dots for each contender, best mean first: its categories, whiskers for the deviation over runs.

    A tick stands at the mean.
    """
    lines = tables.lines(metric)
    categories = [(name, cells) for name, is_mean, cells in lines if not is_mean]
    scores = 100 * np.array([[cell.mean for cell in cells] for _, cells in categories])
    deviations = 100 * np.nan_to_num([[cell.std for cell in cells] for _, cells in categories])
    order = [place for place in range(scores.shape[1]) if not np.isnan(scores[:, place]).all()]
    order.sort(key=lambda place: -np.nanmean(scores[:, place]))
    names = [_short(tables.contenders[place].title) for place in order]
    heights = range(len(order))
    with mpl.rc_context(STYLE):
        size = (5.2 + 0.07 * max(map(len, names)), min(1.4 + 0.22 * len(order), WIDEST))
        figure = Figure(size, layout="constrained")
        axes = figure.add_subplot()
        for index, (name, _) in enumerate(categories):
            marker = MARKERS[(index // len(SERIES) + index) % len(MARKERS)]
            style: Any = {"c": f"C{index}", "markersize": 6.5, "markeredgecolor": PAPER}
            axes.plot(scores[index, order], heights, marker, label=_short(formatting.category_name(name)), **style)
            if deviations.any():
                axes.errorbar(
                    scores[index, order], heights, xerr=deviations[index, order], fmt="none", ecolor=f"C{index}"
                )
        axes.plot([100 * lines[-1][2][place].mean for place in order], heights, "|", color=INK, markersize=13)
        if metric in CHANCE:
            axes.axvline(CHANCE[metric], color=MUTED, linewidth=0.8)
        axes.set_yticks(heights, names)
        axes.tick_params(axis="y", labelcolor=INK)
        axes.set_ylim(len(order) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{METRICS[metric]}, %; | is the mean" + ("; 50 is chance" if metric in CHANCE else ""))
        figure.legend(loc="outside lower center", ncols=min(len(categories), 5), frameon=False, fontsize=8.5)
    return figure


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a plot as PNG and as SVG, on white.

    Args:
        figure: The plot.
        folder: Where to; made where missing.
        name: Name of the files without their endings.

    Returns:
        The SVG file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    with mpl.rc_context(STYLE):
        figure.savefig(folder / f"{name}.png", dpi=160, facecolor="white", metadata={"Software": None})
        figure.savefig(path, facecolor="white", metadata={"Date": None, "Creator": None})
    return path


def inline(plot: Plot) -> str:
    """Write a plot as SVG for a page: its colours are variables of the page's style, its background is none."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        plot.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", _adapted, text)  # tags alone: names are text
    return text.replace("<svg ", f'<svg role="img" aria-label="{plot.title}" ', 1)


def _adapted(tag: re.Match[str]) -> str:
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", tag[0])
    for value, variable in VARIABLES.items():
        text = text.replace(value, f"var(--{variable})")
    # Names of parts repeat from plot to plot; those of clip paths and markers are made of contents, and may be shared.
    return re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", text)


def _short(name: str) -> str:
    name = " ".join(formatting.clean(name).split())
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\N{HORIZONTAL ELLIPSIS}"
