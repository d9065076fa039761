# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The model that docs/own-model.md builds keeps what the package's own models promise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs/examples"


@pytest.mark.slow
def test_the_model_of_the_page_keeps_the_contract(tmp_path):
    """In a process of its own, where the model is installed as a package with an entry point would be."""
    information = tmp_path / "cutout-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: cutout\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[anomalib.models]\nCutoutNet = cutout:CutoutNet\n")
    paths = [tmp_path, EXAMPLES, Path(__file__).parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "own_model_plugin", "-p", "no:cacheprovider"]
    # Parallel training starts a process that knows this package's own models only.
    command += ["tests/models/test_contract.py", "-k", "CutoutNet and not two_processes"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 30


def test_the_page_shows_the_files_that_are_tested():
    page = (ROOT / "docs/own-model.md").read_text()
    shown = re.findall(r"literalinclude\} examples/(\S+)", page)
    assert set(shown) == {f"cutout/{name}" for name in ("torch_model.py", "lightning_model.py")}
    assert all((EXAMPLES / name).is_file() for name in shown)
