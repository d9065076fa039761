# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The patches of docs/upstream-proposal.md, applied to a copy of the installed anomalib."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import anomalib
import pytest

UPSTREAM = Path(__file__).parents[2] / "docs/upstream"
SSL = Path(__file__).parents[2] / "src"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not version("anomalib").startswith("2.7."), reason="the patches are for anomalib 2.7"),
    pytest.mark.skipif(shutil.which("patch") is None, reason="needs the command patch"),
]


@pytest.fixture(scope="module", params=[True, False], ids=["patched", "as it is"])
def copy(request, tmp_path_factory):
    """A copy of anomalib, and whether it is patched."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(anomalib.__file__).parent, folder / "src/anomalib")
    for patch in sorted(UPSTREAM.glob("*.patch")) if request.param else ():
        subprocess.run(["patch", "-p1", "--fuzz=0", "-i", patch], cwd=folder, check=True, capture_output=True)
    return folder, request.param


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(SSL)])}
    environment["ANOMALIB_SSL_AUTOREGISTER"] = "0"
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("file", "tests"), [("test_plugins.py", 6), ("test_order.py", 6)])
def test_its_tests_pass_with_the_patch_alone(copy, file, tests):
    folder, patched = copy
    shutil.copy(UPSTREAM / file, folder)
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, file)
    assert done.returncode == (0 if patched else 1), done.stdout + done.stderr
    assert (f"{tests} passed" in done.stdout) == patched


def test_this_package_needs_nothing_else(copy):
    folder, patched = copy
    # Without the start-up file's hook.
    code = (
        "import anomalib.models as m; print(m.__file__); print(hasattr(m, 'CutPaste'), 'cut_paste' in m.list_models())"
    )
    done = run(folder, "-c", code)
    assert done.stdout.splitlines() == [str(folder / "src/anomalib/models/__init__.py"), f"{patched} {patched}"]
