# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Jobs on a local Ray of two workers, one of which is killed."""

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from anomalib_ssl import cli
from anomalib_ssl.commands import benchmark
from anomalib_ssl.comparison.generator import BenchmarkJobGenerator
from anomalib_ssl.comparison.ray_runner import RayRunner
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import Outcome, Store


class Work:
    """Stands in for a job, without a model: notes each attempt in a file, and may die, raise or wait."""

    def __init__(self, store, job, notes, deaths=0, error=None, wait_for=None):
        self.store = store
        self.job = job
        self.notes = notes
        self.deaths = deaths
        self.error = error
        self.wait_for = wait_for

    def describe(self):
        return {"started": "now"}

    def attempt(self):
        path = self.notes / self.job
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.error:
            raise ValueError(self.error)
        limit = time.monotonic() + 60
        while self.wait_for and not (self.notes / self.wait_for).exists() and time.monotonic() < limit:
            time.sleep(0.05)
        assert not self.wait_for or (self.notes / self.wait_for).exists(), "not two at once"
        return Outcome(Row(job=self.job, status="ok", model="Work", dataset="none", seed=count))

    def failure(self, error, details):
        return Outcome(Row(job=self.job, status="failed", model="Work", dataset="none", seed=0, error=error))


def test_ray_is_asked_for_by_name_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"anomalib-ssl\[ray\]"):
        RayRunner(BenchmarkJobGenerator([])).run({})


def test_tasks_share_no_network(configuration, write, tmp_path, monkeypatch):
    """What one of them wrote, others would not find, or would find on some machines alone."""
    jobs = []

    def run(generator, *_):
        jobs.extend(generator.generate_jobs())
        return SimpleNamespace(run=lambda _: [])

    monkeypatch.setattr(benchmark, "RayRunner", run)
    entries = [{"class_path": "CutPaste", "init_args": {"score": way}} for way in ("density", "auto")]
    alike = {**configuration, "benchmark": {**configuration["benchmark"], "model": {"grid": entries}}}
    arguments = ["--config", str(write(alike)), "--output", str(tmp_path / "out"), "--runner", "ray"]
    assert cli.main(["benchmark", *arguments]) == 0
    assert len(jobs) == 2
    assert {job.weights for job in jobs} == {None}


def test_a_result_that_cannot_be_kept_costs_no_other(tmp_path, monkeypatch):
    """With a stand-in for Ray, whose tasks are done at once."""
    task = SimpleNamespace(options=lambda **_: SimpleNamespace(remote=lambda job: job))
    ray = SimpleNamespace(
        is_initialized=lambda: True,
        remote=lambda _: task,
        wait=lambda jobs, num_returns: (jobs[:num_returns], jobs[num_returns:]),
        get=lambda job: job.attempt(),
        exceptions=SimpleNamespace(RayError=RuntimeError),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    store, full = Store(tmp_path / "out"), Store(tmp_path / "full")
    full.table.mkdir(parents=True)
    jobs = [Work(full, "lost", tmp_path), Work(store, "first", tmp_path), Work(store, "second", tmp_path)]
    with pytest.raises(OSError, match=r"cannot be written .* lost,ok"):
        RayRunner(BenchmarkJobGenerator(jobs)).run({})
    assert [row.job for row in store.rows()] == ["first", "second"]


@pytest.fixture(scope="module")
def cluster():
    """A local Ray with room for two tasks."""
    import ray  # takes seconds

    ray.cloudpickle.register_pickle_by_value(sys.modules[Work.__module__])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield ray
    ray.shutdown()


@pytest.mark.slow
def test_the_death_of_a_worker_costs_nothing_but_time(cluster, tmp_path):
    """A worker dies once, another one dies each time, one job raises: all others are done, each result is kept."""
    notes, store = tmp_path / "notes", Store(tmp_path / "out")
    notes.mkdir()
    jobs = [
        Work(store, "dies", notes, deaths=1),
        Work(store, "lost", notes, deaths=9),
        Work(store, "raises", notes, error="no luck"),
        # Two at once: each waits for the other to begin.
        Work(store, "left", notes, wait_for="right"),
        Work(store, "right", notes, wait_for="left"),
    ]
    rows = RayRunner(BenchmarkJobGenerator(jobs), cpus=1, retries=2).run({})
    assert cluster.is_initialized(), "a cluster that was there before is left alone"
    found = {row.job: row for row in store.rows()}
    assert {row.job for row in rows} == set(found) == {"dies", "lost", "raises", "left", "right"}
    assert {job: row.status for job, row in found.items()} == {
        "dies": "ok",
        "lost": "failed",
        "raises": "failed",
        "left": "ok",
        "right": "ok",
    }
    attempts = {job: len(Path(notes / job).read_text(encoding="utf-8").splitlines()) for job in found}
    assert attempts == {"dies": 2, "lost": 3, "raises": 1, "left": 1, "right": 1}
    assert "WorkerCrashedError" in found["lost"].error
    assert "no luck" in found["raises"].error
    assert {state["state"] for state in store.states().values()} == {"ok", "failed"}
