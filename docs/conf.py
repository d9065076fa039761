# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Sphinx configuration: `make docs` builds the pages into docs/_build."""

from anomalib_ssl import __version__

project = "anomalib-ssl"
author = "anomalib-ssl contributors"
copyright = "2026, anomalib-ssl contributors"  # noqa: A001
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "sphinx_book_theme"
exclude_patterns = ["_build"]
autodoc_typehints = "description"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# The README's links point into the repository, which the pages are not part of.
suppress_warnings = ["myst.xref_missing"]
