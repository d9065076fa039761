# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl doctor``: is everything installed, and does anomalib see our models?"""

import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from anomalib_ssl import startup

DISTRIBUTION = "anomalib-ssl"


class Package(NamedTuple):
    """A package that we need or can make use of, and what is there of it."""

    name: str
    installed: str
    required: str
    problem: str = ""


def doctor() -> int:
    """Check the installation and what anomalib sees of it.

    Shows the versions of the packages that matter, how the models of this package reach anomalib, whether anomalib
    finds each of them by its short name on the command line, in ``get_model`` and as an attribute of
    ``anomalib.models``, and the devices to compute on. The look-ups are made in a fresh process, as ``anomalib train``
    would make them.

    Returns:
        0 if all is well, 1 if not, with the reasons printed last.
    """
    console = Console()
    packages = required_packages()
    console.print(_table("Versions", ["package", "installed", "required"], [package[:3] for package in packages]))
    with console.status("Importing anomalib in a fresh process, as `anomalib train` does ..."):
        report = run_probe()
    console.print(_table("Devices", ["device", "description"], list(report["devices"].items())))
    console.print(f"\n[bold]Registration[/bold]: {escape(report['registered'] or 'off')}\n", highlight=False)
    if report["models"]:
        rows = [(name, *map(_mark, found.values())) for name, found in report["models"].items()]
        console.print(_table("Models", ["name", *next(iter(report["models"].values()))], rows))

    problems = [package.problem for package in packages if package.problem] + problems_of(report)
    for problem in problems:
        console.print(f"[red]✗[/red] {escape(problem)}", highlight=False, soft_wrap=True)
    if not problems:
        console.print("[green]✓[/green] anomalib finds every model of this package.", highlight=False)
    return 1 if problems else 0


def required_packages() -> list[Package]:
    """Compare what is installed with what this distribution's metadata asks for."""
    try:
        ours = distribution(DISTRIBUTION)
    except PackageNotFoundError:
        return [Package(DISTRIBUTION, "", "", f"{DISTRIBUTION} is importable but not installed.")]
    wanted = ours.metadata["Requires-Python"] or ""
    packages = [_compare("python", platform.python_version(), wanted), Package(DISTRIBUTION, ours.version, "")]
    for requirement in map(Requirement, ours.requires or []):
        needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if not needed and not (requirement.marker and requirement.marker.evaluate({"extra": "export"})):
            continue
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = ""
        wanted = str(requirement.specifier) if needed else f"{requirement.specifier} to export".strip()
        if installed or not needed:
            packages.append(_compare(requirement.name, installed, str(requirement.specifier))._replace(required=wanted))
        else:
            problem = f"{requirement.name} is not installed."
            packages.append(Package(requirement.name, "", wanted, problem))
    return packages


def _compare(name: str, installed: str, wanted: str) -> Package:
    """Check one version against a specifier; a package that may be missing is fine when it is."""
    fits = not installed or SpecifierSet(wanted).contains(installed, prereleases=True)
    return Package(name, installed, wanted, "" if fits else f"{name} {installed} is installed, {wanted} is needed.")


def run_probe() -> dict[str, Any]:
    """Run ``probe.py`` in a fresh process and return its report."""
    code = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    try:
        report: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (result.stderr.strip().splitlines() or ["no output"])[-1]
        message = f"a fresh Python process failed with exit code {result.returncode}: {last}"
        report = {"registered": "", "error": message, "models": {}, "messages": [], "devices": {}}
    return report


def problems_of(report: dict[str, Any]) -> list[str]:
    """Say what is wrong, and what to do about it.

    Args:
        report: What ``probe.py`` has found.

    Returns:
        One sentence or two for every problem.
    """
    if report["error"]:
        return [f"anomalib cannot be imported: {report['error']}"]
    if not report["registered"]:
        return [f"Registration is switched off by {startup.SWITCH}; anomalib_ssl.register() still works in scripts."]
    problems = list(report["messages"])
    if report["registered"] != startup.STARTUP_FILE:
        problems.append(
            "Python did not run our start-up file (not installed in a site directory?): anomalib's command line does "
            "not know our models. `import anomalib_ssl` registers them in scripts.",
        )
    if not report["models"]:
        problems.append(f"{DISTRIBUTION} names no model. Reinstall it.")
    for name, found in report["models"].items():
        missed = [f"{way} ({path or 'nothing'})" for way, path in found.items() if not path.startswith("anomalib_ssl.")]
        if missed:
            problems.append(f"{name} is not what anomalib finds by {', '.join(missed)}.")
    return problems


def _mark(path: str) -> Text:
    """Show the result of a look-up: found, or what was found instead."""
    return Text("found", "green") if path.startswith("anomalib_ssl.") else Text(path or "not found", "red")


def _table(title: str, columns: list[str], rows: Sequence[tuple[str | Text, ...]]) -> Table:
    """Make a table; what others have named stays as it is, no markup."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    return table
