# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The hook and the registration in detail, on a stand-in for anomalib that imports in no time.

The environment is real: our wheel is installed in it. Only its models are replaced by small ones, since ours need the
real anomalib; what these tests are about does not.
"""

import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

ANOMALIB = {
    "anomalib/__init__.py": "",
    "anomalib/models/components.py": "class AnomalibModule: pass",
    "anomalib/models/__init__.py": """
        import os
        if os.environ.get("BREAK_ANOMALIB"):
            raise ImportError("anomalib is broken")
        from anomalib.models.components import AnomalibModule
        ALLOWED_MODULES = {"anomalib.models"}
        __all__ = ["Padim"]
        class Padim(AnomalibModule): pass
        """,
    "anomalib/engine.py": "from anomalib.models import Padim\nclass Engine: pass",
}
MODELS = {
    "__init__.py": """
        def __getattr__(name):
            if name != "CutPaste":
                raise AttributeError(name)
            from anomalib_ssl.models.cutpaste import CutPaste
            return CutPaste
        """,
    "cutpaste/__init__.py": """
        from anomalib.models import AnomalibModule
        class CutPaste(AnomalibModule): pass
        """,
    # A part of ours that is the first to import anomalib, and that one of our models needs.
    "part.py": "from anomalib.engine import Engine\nclass Part: pass",
    "second.py": """
        from anomalib.engine import Engine
        from anomalib.models import AnomalibModule
        from anomalib_ssl.models.part import Part
        class Second(AnomalibModule): pass
        """,
    "breakable.py": """
        import os
        if os.environ.get("BREAK"):
            raise RuntimeError("no such device")
        from anomalib.models import AnomalibModule
        class Breakable(AnomalibModule): pass
        """,
}
ENTRY_POINTS = """
[anomalib.models]
Breakable = anomalib_ssl.models.breakable:Breakable
CutPaste = anomalib_ssl.models.cutpaste:CutPaste
Second = anomalib_ssl.models.second:Second
"""
CHECK = """
import sys
import anomalib.models as models
from anomalib.models.components import AnomalibModule
ours = ["Breakable", "CutPaste", "Second"]
assert models.__all__ == ["Padim", *ours], models.__all__
assert all(getattr(models, name).__module__.startswith("anomalib_ssl.models") for name in ours)
assert sorted(model.__name__ for model in AnomalibModule.__subclasses__()) == sorted(models.__all__)
assert models.ALLOWED_MODULES == {"anomalib.models"}
assert not any(type(finder).__module__ == "anomalib_ssl.startup" for finder in sys.meta_path)
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    return folder


@pytest.fixture(scope="module")
def anomalib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the stand-in for anomalib."""
    return write(tmp_path_factory.mktemp("stand-in"), ANOMALIB)


@pytest.fixture(scope="module")
def small(empty: SimpleNamespace, distributions: dict[str, Path]) -> Iterator[SimpleNamespace]:
    """Environment with our wheel, its models replaced."""
    empty.pip("install", "--no-deps", distributions["wheel"])
    shutil.rmtree(empty.package / "models", ignore_errors=True)
    write(empty.package / "models", MODELS)
    next(empty.site_packages.glob("anomalib_ssl-*/entry_points.txt")).write_text(ENTRY_POINTS)
    yield empty
    shutil.rmtree(empty.package / "models")
    empty.pip("uninstall", "--yes", "anomalib-ssl")


def succeeds(result: SimpleNamespace) -> None:
    assert (result.returncode, result.stderr) == (0, "")


FIRST = {
    "models": "import anomalib.models",
    "engine": "from anomalib.engine import Engine",
    "our model": "import anomalib_ssl.models.cutpaste",
    "our models": "from anomalib_ssl.models import CutPaste",
    "our lazy model": "from anomalib_ssl import CutPaste",
    "our part": "import anomalib_ssl.models.part",
    "our model needing a part": "import anomalib_ssl.models.second",
    "spec only": "from importlib.util import find_spec; assert find_spec('anomalib.models'); import anomalib.models",
    "register": "import anomalib_ssl; anomalib_ssl.register()",
    "register twice": "from anomalib_ssl import register; assert register() == register()",
    "reinstall": "from anomalib_ssl.startup import install; install(); install(); import anomalib.models; install()",
}


@pytest.mark.parametrize("first", FIRST.values(), ids=FIRST)
def test_models_are_registered_whatever_is_imported_first(small: SimpleNamespace, anomalib: Path, first: str) -> None:
    succeeds(small.run(first + CHECK, path=[anomalib]))


NO_STARTUP = {
    "before": "import anomalib_ssl, anomalib.models",
    "after": "import anomalib.models, anomalib_ssl",
    "after, one of our modules": "import anomalib.models, anomalib_ssl.models.second",
    **{name: code for name, code in FIRST.items() if "anomalib_ssl" in code},
}


@pytest.mark.parametrize("first", NO_STARTUP.values(), ids=NO_STARTUP)
def test_importing_this_package_registers_where_startup_files_do_not_run(
    small: SimpleNamespace,
    anomalib: Path,
    first: str,
) -> None:
    succeeds(small.run(first + CHECK, "-S", path=[anomalib, small.site_packages]))


def test_without_startup_file_and_import_anomalib_is_as_it_was(small: SimpleNamespace, anomalib: Path) -> None:
    code = "import anomalib.models; assert anomalib.models.__all__ == ['Padim']"
    succeeds(small.run(code, "-S", path=[anomalib, small.site_packages]))


def test_modules_keep_their_own_loaders(small: SimpleNamespace, anomalib: Path) -> None:
    code = """
    import anomalib.models, inspect
    from importlib.machinery import SourceFileLoader
    for module in anomalib, anomalib.models:
        assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
    assert "class Padim" in inspect.getsource(anomalib.models)
    """
    succeeds(small.run(code, path=[anomalib]))


def test_a_model_that_cannot_be_imported_warns_once(small: SimpleNamespace, anomalib: Path) -> None:
    code = """
    import anomalib.models, anomalib_ssl
    assert anomalib_ssl.register() == ["CutPaste", "Second"]
    assert anomalib.models.__all__ == ["Padim", "CutPaste", "Second"]
    """
    result = small.run(code, path=[anomalib], variables={"BREAK": "1"})
    assert result.returncode == 0
    message = "RuntimeWarning: anomalib-ssl: the model 'Breakable' cannot be imported: RuntimeError: no such device"
    assert [line.partition(": ")[2] for line in result.stderr.splitlines() if "anomalib-ssl" in line] == [message]
    strict = small.run(code, "-W", "error", path=[anomalib], variables={"BREAK": "1"})
    assert strict.returncode == 0
    assert "the model 'Breakable' cannot be imported" in strict.stderr


def test_a_broken_anomalib_fails_as_without_us_and_may_be_tried_again(small: SimpleNamespace, anomalib: Path) -> None:
    code = """
    import os
    try:
        import anomalib.models
    except ImportError as error:
        assert str(error) == "anomalib is broken"
    del os.environ["BREAK_ANOMALIB"]
    """
    succeeds(small.run(textwrap.dedent(code) + CHECK, path=[anomalib], variables={"BREAK_ANOMALIB": "1"}))


OWNERS = {
    "exported": ("class CutPaste(AnomalibModule): pass", "anomalib.models.CutPaste"),
    "not exported": ("hidden = [type('CutPaste', (AnomalibModule,), {})]", "anomalib.models.CutPaste"),
    "other case": ("class Cutpaste(AnomalibModule): pass", "anomalib.models.Cutpaste"),
    "not a model": ("CutPaste = 1", "anomalib.models.CutPaste"),
}


@pytest.mark.parametrize(("source", "owner"), OWNERS.values(), ids=OWNERS)
def test_a_name_that_anomalib_owns_is_left_to_it(
    small: SimpleNamespace,
    tmp_path: Path,
    source: str,
    owner: str,
) -> None:
    models = textwrap.dedent(ANOMALIB["anomalib/models/__init__.py"]) + source
    write(tmp_path, ANOMALIB | {"anomalib/models/__init__.py": models})
    code = """
    import sys, anomalib.models
    theirs = vars(anomalib.models).get("CutPaste")
    assert theirs is None or getattr(theirs, "__module__", "anomalib.models") == "anomalib.models"
    assert anomalib.models.__all__ == ["Padim", "Breakable", "Second"]
    assert "anomalib_ssl.models.second" in sys.modules
    assert "anomalib_ssl.models.cutpaste" not in sys.modules
    """
    result = small.run(code, path=[tmp_path])
    assert result.returncode == 0
    warnings = [line for line in result.stderr.splitlines() if "anomalib-ssl" in line]
    assert len(warnings) == 1
    assert f"anomalib-ssl: the model name 'CutPaste' is left to {owner}, which had it first." in warnings[0]


def test_switched_off_only_an_explicit_call_registers(small: SimpleNamespace, anomalib: Path) -> None:
    code = """
    import anomalib.models, anomalib_ssl
    assert anomalib.models.__all__ == ["Padim"]
    anomalib_ssl.register()
    """
    off = {"ANOMALIB_SSL_AUTOREGISTER": "0"}
    succeeds(small.run(textwrap.dedent(code) + CHECK, path=[anomalib], variables=off))
    early = "import anomalib_ssl; anomalib_ssl.register()"
    succeeds(small.run(early + CHECK, path=[anomalib], variables=off))


def test_sources_that_are_not_installed_say_so(small: SimpleNamespace, anomalib: Path, tmp_path: Path) -> None:
    shutil.copytree(small.package, tmp_path / "anomalib_ssl")
    result = small.run("import anomalib.models, anomalib_ssl", "-S", path=[tmp_path, anomalib])
    assert result.returncode == 0
    assert "anomalib-ssl is not installed, only importable" in result.stderr
