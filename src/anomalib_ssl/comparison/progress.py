# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Shows how a benchmark goes on: a live table in a terminal, a line per finished job elsewhere.

Everything shown comes from the folder of the benchmark, so it does not matter which process runs a job.
"""

import datetime
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from anomalib_ssl.comparison.store import Store

SHOWN = ("image_AUROC", "pixel_AUROC", "pixel_AUPRO")
LINES = 12
"""Finished jobs that the live table shows."""

COLOURS = {"ok": "green", "failed": "red", "running": "cyan", "queued": "cyan"}


class Progress:
    """What is known of a set of jobs at a moment.

    Args:
        store: Folder of the benchmark.
        jobs: Names of the jobs to run, with the models they are of.
        skipped: Number of jobs that were done before.

    Attributes:
        parallel: How many run at once.
    """

    def __init__(self, store: Store, jobs: Mapping[str, str], skipped: int = 0) -> None:
        self.store = store
        self.jobs = jobs
        self.parallel = 1
        self.skipped = skipped
        self.began = time.time()
        self._read, self._states = float(int(self.began)), dict[str, dict[str, Any]]()

    def states(self) -> dict[str, dict[str, Any]]:
        """Look up the states of the jobs that were written since; only what is new is read, beside those that train."""
        since, self._read = self._read, max(self._read, time.time() - 2)  # clocks of file systems are coarse
        for job, state in self.store.states(since).items():
            if job in self.jobs:
                self._states.pop(job, None)  # the last one written comes last
                self._states[job] = state
        return dict(self._states)

    def seconds_left(self, states: Mapping[str, Mapping[str, Any]]) -> float | None:
        """Estimate the time left from jobs of the same model, else from all; None before any is done."""
        durations = defaultdict(list)
        for job, state in states.items():
            duration = (state.get("row") or {}).get("job_duration")
            if duration:
                durations[self.jobs[job]].append(duration)
        if not durations:
            return None
        overall = fmean(duration for group in durations.values() for duration in group)
        left = 0.0
        for job, model in self.jobs.items():
            state = states.get(job, {})
            if "row" not in state:
                expected = fmean(durations[model]) if durations[model] else overall
                left += max(expected - (_age(state) if state.get("state") == "running" else 0), 0)
        return left / self.parallel

    def summary(self, states: Mapping[str, Mapping[str, Any]]) -> Text:
        """Say on one line how far it is."""
        done = [state["state"] for state in states.values() if "row" in state]
        parts = [f"{len(done)} of {len(self.jobs)} jobs done"]
        if "failed" in done:
            parts.append(f"{done.count('failed')} failed")
        if self.skipped:
            parts.append(f"{self.skipped} done before")
        parts.append(f"{clock(time.time() - self.began)} so far")
        left = self.seconds_left(states)
        if left is not None and len(done) < len(self.jobs):
            parts.append(f"about {clock(left)} left")
        return Text(", ".join(parts), style="dim")

    def __rich__(self) -> Group:
        """Draw the jobs that ended last, those that run, and the summary."""
        states = self.states()
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("model", "data", "seed", "state"):
            table.add_column(heading)
        for heading in ("image AUROC", "pixel AUROC", "AUPRO", "time"):
            table.add_column(heading, justify="right")
        ended = [(job, state) for job, state in states.items() if "row" in state]
        running = [(job, state) for job, state in states.items() if state["state"] == "running"]
        for _, state in [*ended[-LINES:], *running]:
            table.add_row(*_cells(state))
        return Group(table, self.summary(states))


@contextmanager
def shown(progress: Progress, console: Console) -> Iterator[None]:
    """Show the progress while the context is open.

    Args:
        progress: What to show.
        console: Where; it must keep its own file, for standard output belongs to the jobs meanwhile.
    """
    if console.is_terminal:
        with Live(
            progress,
            console=console,
            refresh_per_second=1,
            redirect_stdout=False,
            redirect_stderr=False,
            transient=False,
        ):
            yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_report, args=(progress, console, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def clock(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds.

    Example:
        >>> clock(3725.4)
        '1:02:05'
    """
    return str(datetime.timedelta(seconds=round(seconds)))


def _report(progress: Progress, console: Console, stop: threading.Event) -> None:
    told: set[str] = set()
    while True:
        last = stop.wait(1)
        states = progress.states()
        for job, state in states.items():
            if "row" in state and job not in told:
                told.add(job)
                console.print(Text("  ").join(_cells(state, titles=True)), soft_wrap=True)
        if last:
            console.print(progress.summary(states))
            return


def _cells(state: Mapping[str, Any], titles: bool = False) -> Sequence[Text]:
    row, settings = state.get("row") or {}, state.get("settings") or {}
    model = row.get("label") or settings.get("label") or row.get("model") or _class(settings.get("model"))
    arguments = (settings.get("data") or {}).get("init_args") or {}
    data = row.get("category") or arguments.get("category") or row.get("dataset") or _class(settings.get("data"))
    name = state["state"]
    cells = [Text(str(model)), Text(str(data)), Text(str(settings.get("seed", row.get("seed", ""))))]
    cells.append(Text(name, style=COLOURS.get(name, "")))
    if row.get("error"):
        cells.append(Text(str(row["error"]) if titles else str(row["error"])[:40], style="red"))
        return cells
    for metric in SHOWN:
        value = row.get(metric)
        text = "" if value is None else f"{100 * value:.1f}"
        cells.append(Text(f"{metric} {text}" if titles and text else text))
    cells.append(Text(clock(row.get("job_duration") or _age(state))))
    return cells


def _class(entry: Mapping[str, Any] | None) -> str:
    return str((entry or {}).get("class_path", "")).rpartition(".")[2]


def _age(state: Mapping[str, Any]) -> float:
    started = datetime.datetime.fromisoformat((state.get("row") or state)["started"])
    return (datetime.datetime.now(datetime.timezone.utc) - started).total_seconds()
