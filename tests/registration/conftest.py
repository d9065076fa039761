# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Real environments to install the package into, made once per session.

Each is a virtual environment of its own. So that nothing is downloaded, a ``.pth`` file in it points to a folder of
links to what is installed beside the running interpreter, except this package and every ``.pth`` file.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment and how to use it."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, packages: Path) -> "Environment":
        """Create an environment that can also import what is in the folder ``packages``."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        environment = cls(folder)
        (environment.site_packages / "linked.pth").write_text(f"{packages}\n")
        return environment

    @property
    def python(self) -> Path:
        """The interpreter."""
        return next(self.folder.glob("bin/python")) if os.name == "posix" else self.folder / "Scripts" / "python.exe"

    @property
    def site_packages(self) -> Path:
        """Where packages are installed."""
        return next(self.folder.rglob("site-packages"))

    @property
    def package(self) -> Path:
        """The installed package."""
        return self.site_packages / "anomalib_ssl"

    def files(self) -> set[Path]:
        """Every file and folder there is, but for bytecode."""
        return {path for path in self.folder.rglob("*") if path.suffix != ".pyc" and path.name != "__pycache__"}

    def pip(self, *arguments: str | Path) -> None:
        """Run the pip of the running interpreter on this environment."""
        options = ["--python", str(self.python), "--disable-pip-version-check", "--quiet"]
        subprocess.run([sys.executable, "-m", "pip", *options, *map(str, arguments)], check=True, cwd=self.folder)

    def execute(
        self,
        *arguments: str | Path,
        path: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run the interpreter in a fresh process, away from the repository and with a clean set of variables.

        Args:
            *arguments: Options and arguments of the interpreter.
            path: Folders for ``PYTHONPATH``.
            variables: Further environment variables.
        """
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ANOMALIB_SSL"))}
        clean |= {"PYTHONPATH": os.pathsep.join(map(str, path))} if path else {}
        return subprocess.run(
            [self.python, *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=clean | dict(variables or {}),
        )

    def run(
        self,
        code: str,
        *flags: str,
        path: Sequence[Path] = (),
        variables: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run code, indented as it may be, with options of the interpreter."""
        return self.execute(*flags, "-c", textwrap.dedent(code), path=path, variables=variables)


def link_packages(folder: Path, wanted: Callable[[str], bool]) -> Path:
    """Fill a folder with links to the packages beside the running interpreter."""
    folder.mkdir()
    for source in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(source).iterdir():
            if entry.suffix != ".pth" and "anomalib_ssl" not in entry.name and wanted(entry.name):
                (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    return {"wheel": next(folder.glob("*.whl")), "sdist": next(folder.glob("*.tar.gz"))}


@pytest.fixture(scope="session")
def with_anomalib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of everything installed but this package."""
    return link_packages(tmp_path_factory.mktemp("linked") / "all", lambda name: True)


@pytest.fixture(scope="session")
def without_anomalib(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of everything installed but this package and anomalib."""
    return link_packages(tmp_path_factory.mktemp("linked") / "rest", lambda name: not name.startswith("anomalib"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory, distributions: dict[str, Path], with_anomalib: Path) -> Environment:
    """Environment with anomalib and our wheel."""
    environment = Environment.make(tmp_path_factory.mktemp("environments") / "wheel", with_anomalib)
    environment.pip("install", "--no-deps", distributions["wheel"])
    return environment


@pytest.fixture(scope="session")
def editable(tmp_path_factory: pytest.TempPathFactory, with_anomalib: Path) -> Environment:
    """Environment with anomalib and an editable install of a copy of our sources."""
    folder = tmp_path_factory.mktemp("environments")
    kept = ["src", "startup", "pyproject.toml", "README.md", "LICENSE"]
    for name in kept:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    environment = Environment.make(folder / "editable", with_anomalib)
    environment.pip("install", "--no-deps", "--no-build-isolation", "--editable", folder)
    return environment


@pytest.fixture(scope="session")
def lonely(
    tmp_path_factory: pytest.TempPathFactory,
    distributions: dict[str, Path],
    without_anomalib: Path,
) -> Environment:
    """Environment with our wheel and without anomalib."""
    environment = Environment.make(tmp_path_factory.mktemp("environments") / "lonely", without_anomalib)
    environment.pip("install", "--no-deps", distributions["wheel"])
    return environment


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory, without_anomalib: Path) -> Environment:
    """Environment without this package."""
    return Environment.make(tmp_path_factory.mktemp("environments") / "empty", without_anomalib)
