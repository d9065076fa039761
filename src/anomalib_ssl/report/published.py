# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Published figures, each with its source, from ``published.yaml``."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from anomalib_ssl.report.contenders import Contender

MEANS = ("mean", "texture", "object")
"""Names among the values that are means over categories."""


@dataclass(frozen=True)
class Published:
    """A published line of figures.

    Args:
        title: Method and setting, as the source calls them.
        model: Class of the model it belongs to.
        when: Arguments of that model for which it stands beside ours, each with the values allowed; None among them
            stands for the default.
        dataset: Name of the data set.
        metric: Name of the metric; None if the source does not say which one it is.
        values: In percent by category; ``mean``, ``texture`` and ``object`` are means. What is not known is not there.
        source: Where the figures stand.
        note: What else one has to know.
    """

    title: str
    model: str
    when: Mapping[str, list[Any]]
    dataset: str
    metric: str | None
    values: Mapping[str, float]
    source: str
    note: str | None = None


@lru_cache
def published() -> tuple[Published, ...]:
    """Read all published figures."""
    text = files(__package__).joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(Published(**{"when": {}, **entry}) for entry in yaml.safe_load(text))


def beside(contender: Contender, dataset: str, metric: str) -> Published | None:
    """Find the figures that stand beside a contender's; the first entry that fits."""
    given = contender.arguments
    for entry in published():
        if (entry.model, entry.dataset, entry.metric) == (contender.row.model, dataset, metric) and all(
            given.get(name) in allowed for name, allowed in entry.when.items()
        ):
            return entry
    return None
