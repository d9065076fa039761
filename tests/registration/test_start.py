# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What installing and uninstalling does to every start of Python."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

# What is there right after the start: all modules, and how many hooks of ours.
STATE = """
import sys
modules = sorted(sys.modules)
hooks = sum(type(finder).__module__ == "anomalib_ssl.startup" for finder in sys.meta_path)
import json
print(json.dumps([modules, hooks]))
"""


def state(environment: SimpleNamespace, *flags: str, **options: object) -> tuple[set[str], int]:
    modules, hooks = json.loads(environment.run(STATE, *flags, **options).stdout)
    return set(modules), hooks


@pytest.fixture(scope="module")
def nothing(empty: SimpleNamespace) -> set[str]:
    """The modules that Python loads without us."""
    modules, hooks = state(empty)
    assert not hooks
    assert not [name for name in modules if name.startswith("anomalib")]
    return modules


@pytest.fixture(scope="module")
def hook_only(nothing: set[str]) -> set[str]:
    """The modules that Python loads with us, and no other."""
    return nothing | {"anomalib_ssl", "anomalib_ssl.startup"}


@pytest.fixture(params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest) -> SimpleNamespace:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("flags", [[], ["-I"], ["-E"]], ids=["plain", "isolated", "no_variables"])
def test_start_is_silent_and_loads_only_the_hook(
    installed: SimpleNamespace,
    hook_only: set[str],
    flags: list[str],
) -> None:
    result = installed.run("pass", *flags)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert state(installed, *flags) == (hook_only, 1)


def test_without_site_nothing_of_ours_runs_or_complains(installed: SimpleNamespace) -> None:
    modules, hooks = state(installed, "-S")
    assert not hooks
    assert not [name for name in modules if name.startswith("anomalib")]
    missing = installed.run("import anomalib", "-S")
    assert missing.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'anomalib'"
    assert "anomalib_ssl" not in missing.stderr


@pytest.mark.parametrize("value", ["0", "false", "OFF"])
def test_switched_off_no_hook_is_installed(installed: SimpleNamespace, hook_only: set[str], value: str) -> None:
    assert state(installed, variables={"ANOMALIB_SSL_AUTOREGISTER": value}) == (hook_only, 0)


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_uninstalling_leaves_nothing_behind(
    empty: SimpleNamespace,
    distributions: dict[str, Path],
    editable: SimpleNamespace,
    nothing: set[str],
    hook_only: set[str],
    kind: str,
) -> None:
    before = empty.files()
    options = [distributions["wheel"]] if kind == "wheel" else ["--no-build-isolation", "-e", editable.folder.parent]
    empty.pip("install", "--no-deps", *options)
    assert state(empty) == (hook_only, 1)
    empty.pip("uninstall", "--yes", "anomalib-ssl")
    assert empty.files() == before
    assert state(empty) == (nothing, 0)


@pytest.mark.parametrize("half", [False, True], ids=["package_gone", "package_half_gone"])
def test_a_startup_file_left_over_is_silent(empty: SimpleNamespace, half: bool) -> None:
    left_over = empty.site_packages / "anomalib_ssl.pth"
    shutil.copy(Path(__file__).parents[2] / "startup" / "anomalib_ssl.pth", left_over)
    if half:
        empty.package.mkdir()
    try:
        result = empty.run("pass")
    finally:
        left_over.unlink()
        shutil.rmtree(empty.package, ignore_errors=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_two_startup_files_call_the_same_function(wheel: SimpleNamespace) -> None:
    lines = (wheel.site_packages / "anomalib_ssl.start").read_text().splitlines()
    calls = [line for line in lines if not line.startswith("#")]
    assert calls == ["anomalib_ssl.startup:install"]
    code = f"import pkgutil; pkgutil.resolve_name({calls[0]!r})()\n{STATE}"
    assert json.loads(wheel.run(code).stdout)[1] == 1
    assert "from anomalib_ssl.startup import install" in (wheel.site_packages / "anomalib_ssl.pth").read_text()


def test_everything_else_of_the_package_is_loaded_on_demand(wheel: SimpleNamespace) -> None:
    code = """
    import anomalib_ssl, sys
    assert {"CutPaste", "register", "__version__"} <= set(dir(anomalib_ssl))
    assert "torch" not in sys.modules
    from importlib.metadata import version
    assert anomalib_ssl.__version__ == version("anomalib-ssl")
    try:
        anomalib_ssl.nothing
    except AttributeError as error:
        print(error)
    """
    assert wheel.run(code).stdout.strip() == "module 'anomalib_ssl' has no attribute 'nothing'"
