# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Numbers as tables show them."""

import re
from collections.abc import Callable

from anomalib_ssl.report.contenders import Contender, Figure
from anomalib_ssl.report.tables import MetricTable, OverviewLine

MINUS = "\N{MINUS SIGN}"
DASH = "\N{EN DASH}"
ZERO_WIDTH_SPACE = "\N{ZERO WIDTH SPACE}"
TIMES = "\N{MULTIPLICATION SIGN}"


def percent(figure: Figure | None) -> str:
    """Write a score in percent with one decimal; empty where there is none.

    Example:
        >>> percent(Figure(0.98765, None, 1))
        '98.8'
    """
    return "" if figure is None else f"{100 * figure.mean:.1f}"


def deviation(figure: Figure | None) -> str:
    """Write a standard deviation in percent points; empty where there is none."""
    return "" if figure is None or figure.std is None else f"{100 * figure.std:.1f}"


def gap(value: float | None) -> str:
    """Write a difference in percent points with its sign."""
    if value is None:
        return ""
    return "0.0" if abs(value) < 0.05 else f"{value:+.1f}".replace("-", MINUS)


def plain(value: float | None) -> str:
    """Write a published figure."""
    return "" if value is None else f"{value:.1f}"


def rate(value: float | None) -> str:
    """Write images per second: three digits of them, or all of more."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def duration(seconds: float | None) -> str:
    """Write a duration in the unit that suits it.

    Example:
        >>> [duration(value) for value in (4.2, 125, 8000)]
        ['4.2 s', '2.1 min', '2.2 h']
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def memory(mib: float | None) -> str:
    """Write an amount of memory in GiB."""
    return "" if mib is None else f"{mib / 1024:.1f} GiB"


def millions(count: float | None) -> str:
    """Write a number of parameters in millions."""
    return "" if count is None else f"{count / 1e6:.1f} M" if count < 1e9 else f"{count / 1e9:.1f} G"


def resolution(contender: Contender) -> str:
    """Write the size of images."""
    return (contender.resolution or "").replace("x", TIMES)


def budget(contender: Contender) -> str:
    """Write what ended training, with thousands apart."""
    words = (contender.budget or "").split(" ")
    return " ".join(f"{int(word):,}" if word.isdigit() else word for word in words)


def category_name(name: str) -> str:
    """Write a category in words."""
    return name.replace("_", " ") or DASH


def breakable(title: str) -> str:
    """Let long names of classes be broken between their words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", ZERO_WIDTH_SPACE, title)


def image_name(name: str) -> str:
    """Write folder and file of an image in words, without the ending."""
    return name.rpartition(".")[0].replace("_", " ").replace("/", " ")


COSTS: dict[str, Callable[[OverviewLine], str]] = {
    "images/s, one by one": lambda line: rate(line.contender.average("images_per_second_1")),
    "images/s, batches": lambda line: rate(line.contender.average("images_per_second_n")),
    "fit": lambda line: duration(line.contender.average("fit_duration")),
    "memory": lambda line: memory(line.contender.average("peak_memory")),
    "parameters": lambda line: millions(line.contender.average("parameters")),
}
"""Columns of the overview beside settings and scores."""


def shown_costs(lines: tuple[OverviewLine, ...]) -> list[str]:
    """Name the columns of costs that have any value."""
    return [name for name, text in COSTS.items() if any(text(line) for line in lines)]


def has_published(table: MetricTable, column: int) -> bool:
    """Whether published figures are known for any category of a column, and not for means alone."""
    return any(line.cells[column].published is not None for line in table.lines if not line.is_mean)
