# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The notebook runs from its first cell to its last, and comes to what it says."""

import ast
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (settings,) = (cell for cell in notebook.cells if "UPDATES = " in cell.source)
    settings.source = settings.source.replace("UPDATES = 60", "UPDATES = 4")
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    results = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert sum("image/png" in data for data in results) == 3
    plain = [ast.literal_eval(data["text/plain"]) for data in results if "image/png" not in data]
    defects, metrics, name, by_engine, by_file = plain
    assert defects == ["cut", "good", "loose_thread", "missing_thread", "stain"]
    assert set(metrics) >= {"image_AUROC", "pixel_AUROC"}
    assert name == "model.pt"
    assert by_file == pytest.approx(by_engine, abs=0.011)


def test_no_output_is_committed():
    nbformat = pytest.importorskip("nbformat")
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) > 8
    assert not any(cell.outputs or cell.execution_count for cell in cells)
