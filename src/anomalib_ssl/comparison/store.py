# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The folder of a benchmark: one file a job while it runs, a line of ``results.csv`` as soon as it is done.

::

    results.csv          one line per finished job, in the order in which they finished
    jobs/NAME.json       state, row, settings and traceback of a job; the log beside it
    pictures/*.npz       anomaly maps of a job, and the images of a category

Several processes of one machine may write at once. A process killed at any moment leaves at most a torn last line,
which is removed, and a job that counts as not done.
"""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from anomalib_ssl.comparison.row import COLUMNS, Row
from anomalib_ssl.comparison.table import read_rows


@dataclass(frozen=True)
class Outcome:
    """What a job leaves behind.

    Args:
        row: Its line of ``results.csv``.
        details: Everything else worth keeping, as plain data for its JSON file.
        pictures: Contents of files for the folder ``pictures`` by name. Files that exist already stay.
    """

    row: Row
    details: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


class Store:
    """Reads and writes the folder of a benchmark.

    Args:
        folder: Where it is; made when something is written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = Store(folder)
        ...     row = Row(job="a", status="ok", model="Padim", dataset="MVTecAD", seed=0, image_AUROC=0.9)
        ...     store.save(Outcome(row))
        ...     [row.image_AUROC for row in store.rows()]
        [0.9]
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    @property
    def table(self) -> Path:
        """The file of results."""
        return self.folder / "results.csv"

    @property
    def pictures(self) -> Path:
        """The folder of maps and images."""
        return self.folder / "pictures"

    def log(self, job: str) -> Path:
        """Where the output of a job goes."""
        return self.folder / "jobs" / f"{job}.log"

    def rows(self) -> list[Row]:
        """Read all rows; of several rows of a job the last one counts."""
        return list({row.job: row for row in read_rows(self.table)}.values()) if self.table.is_file() else []

    def start(self, job: str, description: Mapping[str, Any], state: str = "running") -> None:
        """Note that a job has started, or waits somewhere else."""
        self._write_json(job, {"state": state, **description})

    def save(self, outcome: Outcome) -> None:
        """Keep what a job has left: pictures first, its line of the table last."""
        for name, content in outcome.pictures.items():
            if not (self.pictures / name).is_file():
                write_atomically(self.pictures / name, content)
        self._write_json(outcome.row.job, {"state": outcome.row.status, "row": asdict(outcome.row), **outcome.details})
        self._append(outcome.row)

    def states(self) -> dict[str, dict[str, Any]]:
        """Read the JSON files of all jobs by name, in the order in which they were written last."""
        files = sorted((self.folder / "jobs").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}

    def heal(self) -> None:
        """Append rows of jobs that ended, but whose process was killed before it could do so."""
        listed = {row.job for row in self.rows() if row.status == "ok"}
        for job, state in self.states().items():
            if state["state"] == "ok" and job not in listed:
                self._append(Row(**state["row"]))

    def _write_json(self, job: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, default=str)
        write_atomically(self.folder / "jobs" / f"{job}.json", text.encode())

    def _append(self, row: Row) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with _locked(self.table) as file:
            file.seek(0)
            content = file.read()
            if content and not content.endswith(b"\n"):  # torn by a killed process
                file.truncate(content.rfind(b"\n") + 1)
            header = b"" if b"\n" in content else _line(COLUMNS)
            if not header and content.split(b"\n", 1)[0] + b"\n" != _line(COLUMNS):
                msg = f"'{self.table}' has other columns than this version writes; use another output folder."
                raise ValueError(msg)
            file.write(header + _line(row.cells()))
            file.flush()
            os.fsync(file.fileno())


def read_pictures(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a file of pictures."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that others see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _line(cells: Any) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow([" ".join(str(cell).splitlines()) for cell in cells])
    return buffer.getvalue().encode()


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a file for appending while no other process does."""
    with FileLock(path.with_name(f".{path.name}.lock")), path.open("a+b") as file:
        yield file
