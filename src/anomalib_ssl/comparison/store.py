# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The folder of a benchmark: one file a job while it runs, a line of ``results.csv`` as soon as it is done.

::

    results.csv          one line per finished job, in the order in which they finished
    jobs/NAME.json       state, row, settings and traceback of a job; the log beside it
    pictures/*.npz       anomaly maps of a job, and the images of a category

Several processes of one machine may work in it at once: each claims the job that it does. A process killed at any
moment leaves at most a torn last line, which is removed, and a job that counts as not done.
"""

import csv
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from anomalib_ssl.comparison.row import COLUMNS, Row
from anomalib_ssl.comparison.table import read_header, read_rows
from anomalib_ssl.file_names import safe_name

logger = logging.getLogger(__name__)


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

    def weights(self, network: str) -> Path:
        """File of a trained network, with which several jobs may score."""
        return self.folder / "weights" / f"{network}.pt"

    def log(self, job: str) -> Path:
        """Where the output of a job goes."""
        return self.folder / "jobs" / f"{safe_name(job)}.log"

    def rows(self) -> list[Row]:
        """Read all rows; of several rows of a job the last one counts."""
        return list({row.job: row for row in read_rows(self.table)}.values()) if self.table.is_file() else []

    def done(self) -> dict[str, Row]:
        """Read the rows of jobs that need not run again."""
        return {row.job: row for row in self.rows() if row.status == "ok"}

    def has_results(self) -> bool:
        """Whether there is a table, or a row that :meth:`heal` may bring back."""
        return self.table.is_file() or any("row" in state for state in self.states().values())

    @contextmanager
    def claimed(self, job: str) -> Iterator[bool]:
        """Claim a job while the context is open; False if another process has it. A claim ends with its process."""
        lock = self.lock(job)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def lock(self, name: str) -> FileLock:
        """Make a lock, of which one process at a time is inside; it ends with its process."""
        path = self.folder / "jobs" / f".{safe_name(name)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def start(self, job: str, description: Mapping[str, Any], state: str = "running") -> None:
        """Note that a job has started, or waits somewhere else."""
        self._write_json(job, {"state": state, **description})

    def save(self, outcome: Outcome) -> None:
        """Keep what a job has left: its JSON file, from which :meth:`heal` takes the row, its line, then pictures.

        Raises:
            OSError: If the line cannot be written; the message holds it. What else cannot be written is warned of.
        """
        row = outcome.row
        with _optional(row.job):
            self._write_json(row.job, {"state": row.status, "row": asdict(row), **outcome.details})
        try:
            self.append(row)
        except OSError as error:
            msg = f"'{self.table}' cannot be written ({error}). It lacks the row {_line(row.cells()).decode().strip()}"
            raise OSError(msg) from error
        with _optional(row.job):
            for name, content in outcome.pictures.items():
                if not (self.pictures / name).is_file():
                    write_atomically(self.pictures / name, content)

    def states(self, since: float = 0.0) -> dict[str, dict[str, Any]]:
        """Read the JSON files of jobs by name, in the order in which they were written last, from a time on."""
        files = sorted((path.stat().st_mtime, path) for path in (self.folder / "jobs").glob("*.json"))
        found = {}
        for path in (path for written, path in files if written >= since):
            state = _read_json(path)
            if isinstance(state.get("state"), str) and isinstance(state.get("row", {}), dict):
                found[str(state.get("job", path.stem))] = state
            else:
                logger.warning("%s is left out: it does not tell the state of a job.", path)
        return found

    def heal(self) -> None:
        """Append rows of jobs that ended, but whose process was killed before it could do so.

        Raises:
            ValueError: If the table has other columns than this version writes.
        """
        if self.table.is_file() and read_header(self.table) not in ([], list(COLUMNS)):
            msg = f"'{self.table}' has other columns than this version writes; use another output folder."
            raise ValueError(msg)
        listed = self.done()
        for job, state in self.states().items():
            if state["state"] == "ok" and job not in listed:
                try:
                    cells = Row(**state["row"]).cells()
                    self.append(Row.from_cells(dict(zip(COLUMNS, cells, strict=True))))
                except (KeyError, TypeError, ValueError) as error:
                    logger.warning("jobs/%s.json is left out: it holds no row (%s).", safe_name(job), error)

    def append(self, row: Row) -> None:
        """Add a line to the table."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = self.table.with_name(f".{self.table.name}.lock")
        with FileLock(lock), self.table.open("a+b") as file:
            file.seek(0)
            content = file.read()
            end = b""
            if content and not content.endswith(b"\n"):
                torn = content[content.rfind(b"\n") + 1 :]
                if len(next(csv.reader([torn.decode(errors="replace")]))) == len(COLUMNS):
                    end = b"\n"
                else:  # by a killed process: the row is in the JSON file of its job
                    file.truncate(len(content) - len(torn))
            header = b"" if b"\n" in content else _line(COLUMNS)
            file.write(end + header + _line(row.cells()))
            file.flush()
            os.fsync(file.fileno())

    def _write_json(self, job: str, content: Mapping[str, Any]) -> None:
        text = json.dumps({"job": job, **content}, indent=2, default=str)
        write_atomically(self.folder / "jobs" / f"{safe_name(job)}.json", text.encode())


@contextmanager
def _optional(job: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("%s: details or pictures cannot be kept: %s", job, error)


def read_pictures(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a file of pictures."""
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # an unreadable one, or one that holds something else
        return {}
    return content if isinstance(content, dict) else {}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that others see all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # it would take what room is left
        raise


def _line(cells: Any) -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\n").writerow([" ".join(str(cell).splitlines()) for cell in cells])
    return buffer.getvalue().encode()
