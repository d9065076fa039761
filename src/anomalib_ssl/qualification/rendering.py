# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The page of a qualification: one HTML file that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from anomalib_ssl.qualification.families import FAMILIES
from anomalib_ssl.qualification.figures import grade_name
from anomalib_ssl.qualification.misses import Miss
from anomalib_ssl.qualification.record import ALL
from anomalib_ssl.report import formatting
from anomalib_ssl.report.gallery import jpeg
from anomalib_ssl.report.plots import Plot, inline
from anomalib_ssl.report.rendering import environment, style


def html(record: Mapping[str, Any], drawn: Mapping[tuple[str, str], Plot], misses: Sequence[Miss], title: str) -> str:
    """Write the page: light or dark as the reader has it.

    Args:
        record: What was found.
        drawn: Figures by family and what they are over.
        misses: Defects that were missed.
        title: Heading.
    """
    template = files(__package__).joinpath("template.html.j2").read_text(encoding="utf-8")
    sides = {"side": record["sound"]["shorter_side"], "pixel_size": record["settings"]["pixel_size"]}
    return (
        environment(formatting.clean)
        .from_string(template)
        .render(
            record=record,
            plots=drawn,
            misses=misses,
            title=title,
            families=list(dict.fromkeys(curve["family"] for curve in record["curves"])),
            every=ALL,
            meanings={name: (FAMILIES[name].make.__doc__ or "").partition(":")[0].rstrip(".") for name in FAMILIES},
            grade_name=grade_name,
            units=lambda pixels: units(pixels, **sides),
            percent=percent,
            interval=interval,
            style=style(),
            jpeg=jpeg,
            inline=lambda plot: Markup(inline(plot)),  # noqa: S704  # its text is escaped
        )
    )


def units(pixels: float, side: int, pixel_size: float | None) -> str:
    """Write a size in percent of the image and, where the size of a pixel is known, in millimetres.

    Example:
        >>> units(12.8, 256, None), units(12.8, 256, 0.05)
        ('5.0 %', '5.0 %, 0.64 mm')
    """
    share = f"{100 * pixels / side:.1f} %"
    return share if pixel_size is None else f"{share}, {pixels * pixel_size:.3g} mm"


def percent(share: float) -> str:
    """Write a share in percent, with a digit behind the point where it is small.

    Example:
        >>> percent(0.0123), percent(0.05), percent(0.5), percent(1.0)
        ('1.2 %', '5 %', '50 %', '100 %')
    """
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %".replace(".0 ", " ")


def interval(low: float, high: float) -> str:
    """Write an interval of shares in percent."""
    return f"{percent(low)} to {percent(high)}"
