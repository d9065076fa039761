# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Numbers and names as a report shows them."""

import math
import re
from collections.abc import Callable, Sequence

from anomalib_ssl.report.contenders import Contender


def clean(text: str) -> str:
    r"""Replace what no file of text may hold, or what hides other text: controls, surrogates, turns of direction.

    Example:
        >>> ascii(clean("a\x00b\ud800"))
        "'a\\ufffdb\\ufffd'"
    """
    forbidden = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
    return re.sub(forbidden, "\N{REPLACEMENT CHARACTER}", text)


def number(value: float | None, form: str = ".1f") -> str:
    """Write a number; empty where there is none.

    Example:
        >>> number(98.765), number(float("nan"))
        ('98.8', '')
    """
    return "" if value is None or math.isnan(value) else format(value, form)


def gap(value: float) -> str:
    """Write a difference in percent points with its sign."""
    return "0.0" if abs(value) < 0.05 else number(value, "+.1f").replace("-", "\N{MINUS SIGN}")


def rate(value: float) -> str:
    """Write images per second, or minutes: three digits of them, or all of more."""
    return number(value, ",.0f" if value >= 99.95 else "#.3g")


def duration(seconds: float) -> str:
    """Write a duration in the unit that suits it.

    Example:
        >>> [duration(value) for value in (4.2, 125, 8000)]
        ['4.2 s', '2.1 min', '2.2 h']
    """
    size, unit = (1, "s") if seconds < 60 else (60, "min") if seconds < 3600 else (3600, "h")
    return f"{seconds / size:.1f} {unit}"


def millions(count: float) -> str:
    """Write a number of parameters in millions."""
    return f"{count / 1e6:.1f} M" if count < 1e9 else f"{count / 1e9:.1f} G"


def resolution(contender: Contender) -> str:
    """Write the size of images."""
    return (contender.row.resolution or "").replace("x", "\N{MULTIPLICATION SIGN}")


def budget(contender: Contender) -> str:
    """Write what ended training, with thousands apart."""
    return re.sub(r"(?<!\S)[0-9]{4,15}(?!\S)", lambda count: f"{int(count[0]):,}", contender.row.budget or "")


def start_weights(contender: Contender) -> str:
    """Say where a contender starts, and whether it saw test images."""
    transductive, pretrained = contender.group
    start = {None: "", True: "pretrained", False: "random"}[pretrained]
    return f"{start} {'(transductive)' if transductive else ''}".strip()


def seeds(contender: Contender) -> str:
    """Count the seeds, and the runs if some seeds ran more than once."""
    count, runs = contender.runs["seed"].nunique(), contender.runs.groupby(["seed", "repeat"]).ngroups
    return f"{count}" if runs == count else f"{count} ({runs} runs)"


def described(contender: Contender) -> str:
    """List the arguments of model, datamodule and Trainer as they were given."""
    row = contender.row
    arguments = (("model", row.model_args), ("data", row.data_args), ("trainer", row.trainer_args))
    return f"{row.model}; " + ("; ".join(f"{name} {text}" for name, text in arguments if text) or "all defaults")


def scored_by(contender: Contender) -> str:
    """Say how scores and heat maps were made, and of which categories if not of all in one way; empty if not known."""
    ways = contender.scored_by
    if len(ways) == 1:
        return next(iter(ways))
    return "; ".join(f"{', '.join(map(category_name, categories))}: {way}" for way, categories in ways.items())


def category_name(name: str) -> str:
    """Write a category in words."""
    return name.replace("_", " ") or "\N{EN DASH}"


def breakable(title: str) -> str:
    """Let long names of classes be broken between their words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\N{ZERO WIDTH SPACE}", title)


def image_name(name: str) -> str:
    """Write folder and file of an image in words, without the ending."""
    return (name.rpartition(".")[0] or name).replace("_", " ").replace("/", " ")


SETTINGS = {"resolution": resolution, "budget": budget, "start weights": start_weights, "seeds": seeds}
"""What stands above the columns of every table."""

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "images/s, one by one": ("images_per_second_1", rate),
    "images/s, batches": ("images_per_second_n", rate),
    "fit": ("fit_duration", duration),
    "memory": ("peak_memory", lambda mib: f"{mib / 1024:.1f} GiB"),
    "parameters": ("parameters", millions),
}
"""Columns of the overview beside settings and scores: where they come from, and how they are written."""


def costs(contenders: Sequence[Contender]) -> dict[str, list[str]]:
    """Write what contenders cost, by the names of those columns that have any value."""
    columns = {
        name: ["" if math.isnan(value := contender.runs[column].mean()) else write(value) for contender in contenders]
        for name, (column, write) in COSTS.items()
    }
    return {name: texts for name, texts in columns.items() if any(texts)}
