# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Sphinx configuration: `make docs` builds the pages into docs/_build."""

import os
import re
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from anomalib_ssl import __version__

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS / "examples")]

import gallery  # noqa: E402

REPOSITORY = "https://github.com/anomalib-ssl/anomalib-ssl"

PAGES = {
    "src/anomalib_ssl/models/*/README.md": "models/*.md",
    "benchmarks/README.md": "measuring.md",
    "CHANGELOG.md": "changelog.md",
}
"""Files of the repository, and the pages that include them."""

project = "anomalib-ssl"
author = "anomalib-ssl contributors"
copyright = "2026, anomalib-ssl contributors"  # noqa: A001
release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute", ".jupyter_cache", "gallery", "upstream", "examples"]

html_theme = "sphinx_book_theme"
html_title = "anomalib-ssl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": REPOSITORY,
    "use_repository_button": True,
    "show_toc_level": 2,
    "navbar_persistent": [],  # the sidebar has a field to search in
}

myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 1800
nb_output_stderr = "remove"

autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False


def lead_out(app: Any, page: str, source: list[str]) -> None:
    """Lead links to files outside of docs/ to the page that includes them, or else to where they are shown."""
    del app

    def led(match: re.Match[str]) -> str:
        path, _, anchor = match.group(1).partition("#")
        file = Path(os.path.normpath(DOCS / Path(page).parent / path))
        if DOCS in file.parents or not file.exists():
            return match.group()
        name = file.relative_to(DOCS.parent).as_posix()
        shown = next((DOCS / by for pattern, by in PAGES.items() if fnmatch(name, pattern)), None)
        if shown is None:
            return f"](<{REPOSITORY}/{'tree' if file.is_dir() else 'blob'}/main/{name}>)"
        shown = shown.with_name(shown.name.replace("*", file.parent.name))
        return f"]({os.path.relpath(shown, (DOCS / page).parent)}{'#' + anchor if anchor else ''})"

    source[0] = re.sub(r"\]\((\.\./[^)\s]+)\)", led, source[0])


def setup(app: Any) -> None:
    """Draw the gallery, and look after links."""
    gallery.write(DOCS / "gallery")
    app.connect("source-read", lead_out)
