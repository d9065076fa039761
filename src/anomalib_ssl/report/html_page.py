# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A report as one HTML file that needs nothing else."""

from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from anomalib_ssl import __version__
from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import formatting, plots
from anomalib_ssl.report.contenders import GROUPS, Contender
from anomalib_ssl.report.gallery import jpeg
from anomalib_ssl.report.page import MEANINGS, Page
from anomalib_ssl.report.tables import DatasetTables

SCATTERS = ("image_AUROC", "pixel_AUROC")
"""Scores that are plotted against speed."""

KINDS = {"best": "Best", "worst": "Worst", "sound": "Sound"}


def render(page: Page) -> str:
    """Write a report as HTML: pictures, plots and style are inside, and light or dark is as the reader has it."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(_text("template.html.j2"))
    return template.render(
        page=page,
        style=Markup(_text("style.css").partition("\n\n")[2]),  # noqa: S704  # of this package, without its header
        lead=lead(page),
        f=formatting,
        groups=GROUPS,
        kinds=KINDS,
        settings=settings(page),
        metric_names=METRICS,
        meanings=MEANINGS,
        version=__version__,
        jpeg=jpeg,
        counted=counted,
        described=described,
        has_deviations=has_deviations,
        any_best=lambda tables: any(line.best for line in tables.overview),
        scatters={tables.dataset: _scatters(tables) for tables in page.datasets},
        bars={tables.dataset: _bars(tables) for tables in page.datasets},
    )


def lead(page: Page) -> str:
    """Say in a sentence what there is."""
    return ". ".join(
        f"{name[0].upper()}{name[1:]}: {page.facts[name]}"
        for name in ("jobs", "measured", "device")
        if name in page.facts
    )


def settings(page: Page) -> list[tuple[str, object]]:
    """Name the settings that stand above the columns of every table."""
    del page
    return [
        ("resolution", formatting.resolution),
        ("budget", formatting.budget),
        ("start weights", start_weights),
        ("seeds", lambda contender: len(contender.seeds)),
    ]


def start_weights(contender: Contender) -> str:
    """Say where a contender starts, and whether it saw test images."""
    transductive, pretrained = contender.group
    start = "" if pretrained is None else "pretrained" if pretrained else "random"
    return " ".join(word for word in (start, "(transductive)" if transductive else "") if word)


def described(contender: Contender) -> str:
    """List the arguments of model, datamodule and Trainer as they were given."""
    row = contender.rows[0]
    given = [f"{name} {text}" for name, text in (("model", row.model_args), ("data", row.data_args)) if text]
    given += [f"trainer {row.trainer_args}"] if row.trainer_args else []
    return f"{row.model}; " + ("; ".join(given) if given else "all defaults")


def has_deviations(tables: DatasetTables) -> bool:
    """Whether any score has a deviation over seeds."""
    cells = [cell for table in tables.metrics for line in table.lines for cell in line.cells]
    return any(cell.figure is not None and cell.figure.std is not None for cell in cells)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _scatters(tables: DatasetTables) -> list[Markup]:
    found = []
    for metric in SCATTERS:
        figure = plots.accuracy_and_speed(tables, metric)
        if figure is not None:
            description = f"Mean {METRICS[metric]} and images per second of each model"
            found.append(Markup(plots.inline(figure, description)))  # noqa: S704  # drawn here, its text escaped
    return found


def _bars(tables: DatasetTables) -> dict[str, Markup]:
    return {
        table.metric: Markup(plots.inline(plots.category_bars(table), f"{table.title} per category"))  # noqa: S704
        for table in tables.metrics
    }


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
