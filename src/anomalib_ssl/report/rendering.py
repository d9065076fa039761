# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A report as one HTML file that needs nothing else, and as Markdown for repositories and documentation."""

import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from anomalib_ssl import __version__
from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.report import formatting, plots
from anomalib_ssl.report.contenders import GROUPS
from anomalib_ssl.report.gallery import jpeg
from anomalib_ssl.report.noise import BOLD
from anomalib_ssl.report.page import MEANINGS, Page


def html(page: Page, drawn: Mapping[str, Mapping[str, plots.Plot]]) -> str:
    """Write a report as HTML: pictures, plots and style are inside, and light or dark is as the reader has it.

    Args:
        page: What it shows.
        drawn: Plots by data set and name.
    """
    return _render(
        "template.html.j2",
        formatting.clean,
        page=page,
        style=style(),
        version=__version__,
        jpeg=jpeg,
        plots=drawn,
        inline=lambda plot: Markup(plots.inline(plot)),  # noqa: S704  # its text is escaped
    )


def markdown(page: Page, shown: Mapping[str, Mapping[Path, str]]) -> str:
    """Write a report as Markdown, without a gallery.

    Args:
        page: What it shows.
        shown: Titles of the plots of each data set by their files, relative to the page.
    """
    return _render(
        "template.md.j2",
        markdown_text,
        page=page,
        shown=shown,
        link=lambda path: Markup(quote(path.as_posix())),  # noqa: S704  # nothing is left to escape
    )


def markdown_text(text: str) -> Markup:
    r"""Escape what Markdown would take for more than text, on one line.

    Example:
        >>> print(markdown_text("# a_b <c|d>\n[e](f)"))
        \# a\_b \<c\|d\> \[e\](f)
    """
    line = " ".join(formatting.clean(text).split())
    return Markup(re.sub(r"[\\`*_\[\]<>|~$&#]|^[-+=:%(]|(?<=\d)[.)](?= )", r"\\\g<0>", line))  # noqa: S704  # escaped here


def style() -> Markup:
    """The style of all pages, light and dark, without its header."""
    return Markup(_text("style.css").partition("\n\n")[2])  # noqa: S704  # of this package


def environment(escape: Callable[[str], str]) -> Environment:
    """Make what renders templates: whatever is put into them is escaped, and a name that is missing is an error."""
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else escape(str(value)),
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _render(name: str, escape: Callable[[str], str], **context: object) -> str:
    template = environment(escape).from_string(_text(name))
    return template.render(f=formatting, groups=GROUPS, metrics=METRICS, meanings=MEANINGS, bold=BOLD, **context)


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
