# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The curves of the probability of detection, drawn in the style of reports."""

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from anomalib_ssl.qualification.pod import Pod
from anomalib_ssl.qualification.record import Curves
from anomalib_ssl.report.plots import MARKERS, MUTED, SERIES, STYLE, Plot

ACROSS = {"size": "longest extent, pixels", "contrast": "contrast, % of the grey range"}
SCALE = {"size": 1.0, "contrast": 100.0}
"""How values are shown."""


def draw(curves: Curves) -> dict[tuple[str, str], Plot]:
    """Draw a figure for each family, over size and over contrast, with a panel for each model.

    What could not be fitted is not drawn: its shares of hits stand there without a line.

    Returns:
        Plots by family and what they are over.
    """
    keys = list(dict.fromkeys((family, over) for _, family, over, _ in curves))
    return {
        (family, over): Plot(f"Probability of detection, {family}, over {over}", _draw(curves, family, over))
        for family, over in keys
    }


def grade_name(over: str, grade: float) -> str:
    """Write the grade of the other axis: a contrast in percent, a size in pixels.

    Example:
        >>> grade_name("size", 0.05), grade_name("contrast", 11.2)
        ('contrast 5 %', '11.2 px')
    """
    return f"contrast {100 * grade:.3g} %" if over == "size" else f"{grade:.3g} px"


def _draw(curves: Curves, family: str, over: str) -> Figure:
    models = list(dict.fromkeys(model for model, *_ in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(5.0, 3.3) if len(models) == 1 else (0.6 + 3.0 * len(models), 3.0), layout="constrained"
        )
        panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axes, model in zip(panels, models, strict=True):
            chosen = [
                (grade, pod)
                for (name, kind, across, grade), pod in curves.items()
                if (name, kind, across) == (model, family, over)
            ]
            for index, (grade, pod) in enumerate(chosen):
                _curve(axes, pod, index, grade_name(over, grade), SCALE[over])
            axes.axhline(90, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
            axes.set_xscale("log")
            ticks = sorted({value for _, pod in chosen for value in pod.values})
            axes.set_xticks([value * SCALE[over] for value in ticks], [f"{value * SCALE[over]:.3g}" for value in ticks])
            axes.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
            axes.set_ylim(-4, 104)
            axes.set_xlabel(ACROSS[over])
            axes.set_title(f"{family}, {model}" if len(models) > 1 else family, fontsize=9.5, loc="left")
        panels[0].set_ylabel("found, %")
        handles, names = panels[0].get_legend_handles_labels()
        # Outside: there is no free corner in all plots, and points would hide behind it.
        figure.legend(
            handles, names, frameon=False, fontsize=8, handletextpad=0.2, loc="outside lower center", ncols=len(names)
        )
    return figure


def _curve(axes: Axes, pod: Pod, index: int, name: str, scale: float) -> None:
    colour, marker = SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]
    places = np.array(pod.values) * scale
    axes.plot(places, 100 * np.array(pod.rates), marker, color=colour, markersize=4.5, alpha=0.9, label=name)
    if pod.note:
        return
    values = np.geomspace(pod.values[0], pod.values[-1], 100)
    chance, low, high = pod.curve(values)
    axes.plot(values * scale, 100 * chance, color=colour, linewidth=1.6)
    axes.fill_between(values * scale, 100 * low, 100 * high, color=colour, alpha=0.12, linewidth=0)
