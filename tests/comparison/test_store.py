# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The table of results: what is written comes back, whatever happens to the process that writes."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from anomalib.pipelines.components.runners import SerialRunner

from anomalib_ssl.comparison.generator import BenchmarkJobGenerator
from anomalib_ssl.comparison.quiet import quiet
from anomalib_ssl.comparison.recorded_job import RecordedJob
from anomalib_ssl.comparison.row import COLUMNS, METRICS, Row
from anomalib_ssl.comparison.store import Outcome, Store, read_pictures, write_atomically
from anomalib_ssl.comparison.table import read_rows

FULL = Row(
    job="job-1",
    status="ok",
    model="CutPaste",
    dataset="MVTecAD",
    seed=3,
    category="metal_nut",
    label='with, "quotes"',
    model_args='{"widths": [1, 2]}',
    transductive=False,
    pretrained=True,
    updates=10,
    image_AUROC=0.987654,
    parameters=11_000_000,
    peak_memory=1234.5,
    error="one line",
)


def row(job="a", status="ok", **values):
    return Row(job=job, status=status, model="M", dataset="D", seed=0, **values)


def test_a_row_comes_back_as_it_was_written(tmp_path):
    store = Store(tmp_path / "new/folder")
    store.save(Outcome(FULL))
    assert store.rows() == [FULL]
    assert store.table.read_text(encoding="utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert set(METRICS) <= set(COLUMNS)


def test_text_of_several_lines_stays_one_line_of_the_table(tmp_path):
    store = Store(tmp_path)
    store.save(Outcome(row(error="first\nsecond\r\nthird")))
    store.save(Outcome(row("b")))
    assert [entry.error for entry in store.rows()] == ["first second third", None]


def test_of_several_rows_of_a_job_the_last_one_counts(tmp_path):
    store = Store(tmp_path)
    for status in ("failed", "ok"):
        store.save(Outcome(row(status=status)))
    assert [entry.status for entry in store.rows()] == ["ok"]
    assert len(list(read_rows(store.table))) == 2


@pytest.mark.parametrize("kept", [1, 20, -20])
def test_a_torn_last_line_is_left_out_and_removed(tmp_path, kept):
    store = Store(tmp_path)
    store.save(Outcome(row("a")))
    store.save(Outcome(row("b")))
    content = store.table.read_bytes()
    start = content[:-1].rfind(b"\n") + 1
    store.table.write_bytes(content[:start] + content[start:][:kept])
    assert [entry.job for entry in store.rows()] == ["a"]
    store.save(Outcome(row("c")))
    assert [entry.job for entry in store.rows()] == ["a", "c"]


def test_a_last_line_without_its_end_is_kept(tmp_path):
    store = Store(tmp_path)
    store.save(Outcome(FULL))
    store.table.write_bytes(store.table.read_bytes()[:-1])
    assert store.rows() == [FULL]
    store.save(Outcome(row("b")))
    assert store.rows() == [FULL, row("b")]


def test_a_torn_header_is_written_again(tmp_path):
    store = Store(tmp_path)
    store.table.write_bytes(b"job,sta")
    store.save(Outcome(FULL))
    assert store.rows() == [FULL]


def test_rows_of_killed_processes_are_taken_from_their_json_files(tmp_path):
    store = Store(tmp_path)
    for job, status in (("a", "ok"), ("b", "ok"), ("c", "failed")):
        store.save(Outcome(row(job, status, image_AUROC=0.5)))
    store.start("d", {"started": "now"})
    lines = store.table.read_bytes().splitlines(keepends=True)
    store.table.write_bytes(b"".join(lines[:2]))
    store.heal()
    store.heal()
    assert [entry.job for entry in read_rows(store.table)] == ["a", "b"]


def test_other_columns_are_refused_before_anything_runs(tmp_path):
    store = Store(tmp_path)
    store.table.write_text("job,status,unknown\n", encoding="utf-8")
    with pytest.raises(ValueError, match="other columns"):
        store.heal()
    assert store.table.read_text(encoding="utf-8") == "job,status,unknown\n"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"seed": "x"}, "seed must be a whole number, got 'x'"),
        ({"pretrained": "yes"}, "pretrained must be True or False"),
        ({"model": ""}, "model must not be empty"),
        ({"status": "done"}, "status must be ok or failed"),
        ({"image_AUROC": "1.01"}, r"image_AUROC must be a number in \[0, 1\]"),
        ({"image_AUROC": "nan"}, "image_AUROC must be a number"),
        ({"fit_duration": "inf"}, "fit_duration must be a number of at least 0"),
        ({"fit_duration": "-1"}, "fit_duration must be a number of at least 0"),
        ({"model_args": "{"}, "model_args must be a JSON object"),
        ({"data_args": "[1]"}, "data_args must be a JSON object"),
        ({"trainer_args": "[" * 100_000}, "trainer_args must be a JSON object"),
    ],
)
def test_cells_that_cannot_be_values_are_named(cells, message):
    good = {"job": "a", "status": "ok", "model": "M", "dataset": "D", "seed": "0"}
    assert Row.from_cells({**good, "later_column": "x"}).seed == 0
    with pytest.raises(ValueError, match=message):
        Row.from_cells(good | cells)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"a,ok,M,D,zero", "seed must be a whole number"),
        (b"a,ok,M", "3 cells, the first line 5"),
        (b"a,ok,M,D,0,1", "6 cells"),
        (b"a,ok,M,\xe9t\xe9,0", "not in UTF-8"),
        (b"a,ok,M," + b"D" * 200_000 + b",0", "0 cells"),
        (b'"a,ok,M,D,0', "1 cells"),
    ],
)
def test_a_line_that_is_no_row_costs_itself_alone(tmp_path, caplog, line, message):
    table = tmp_path / "results.csv"
    table.write_bytes(b"\xef\xbb\xbfjob,status,model,dataset,seed\r\n" + line + b"\r\nb,ok,M,D,1")
    assert [entry.job for entry in read_rows(table)] == ["b"]
    (record,) = caplog.records
    assert f"{table}, line 2 is left out: " in record.getMessage()
    assert message in record.getMessage()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"state": 1}', b"\xff", b'{"state": "ok", "row": 1}', b"[" * 100_000]
)
def test_a_damaged_job_file_is_left_out(tmp_path, caplog, content):
    store = Store(tmp_path)
    store.save(Outcome(row("a")))
    (tmp_path / "jobs/b.json").write_bytes(content)
    (tmp_path / "jobs/c.json").write_text(json.dumps({"state": "ok", "row": {"job": "c"}}), encoding="utf-8")
    store.heal()
    assert [entry.job for entry in store.rows()] == ["a"]
    assert sum("b.json" in record.getMessage() for record in caplog.records) == 1
    assert sum("c.json" in record.getMessage() for record in caplog.records) == 1


def test_a_job_is_claimed_once(tmp_path):
    one, other = Store(tmp_path), Store(tmp_path)
    with one.claimed("a") as mine, other.claimed("a") as theirs, other.claimed("b") as next_one:
        assert (mine, theirs, next_one) == (True, False, True)
    with other.claimed("a") as again:
        assert again


def test_names_of_jobs_stay_in_the_folder(tmp_path):
    store = Store(tmp_path / "out")
    name = "../../x/" + "y" * 400
    store.save(Outcome(row(name), {}))
    assert store.log(name).parent == tmp_path / "out/jobs"
    assert [entry.job for entry in store.rows()] == [name]
    assert list(store.states()) == [name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_full_disk_shows_the_row_that_could_not_be_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"results.csv' cannot be written .*No space left.*job-1,ok,CutPaste,MVTecAD,3"):
        Store(tmp_path).save(Outcome(FULL))


def test_a_row_that_the_table_cannot_take_is_in_its_json_file(tmp_path):
    store = Store(tmp_path)
    store.table.mkdir()
    with pytest.raises(OSError, match="cannot be written"):
        store.save(Outcome(FULL))
    store.table.rmdir()
    store.heal()
    assert store.rows() == [FULL]


class Work(RecordedJob):
    """Stands in for a job, without a model."""

    job = "job-1"

    def describe(self):
        return {}

    def execute(self, device):
        return Outcome(FULL)

    def failure(self, error, details):
        raise AssertionError(error)


def test_what_cannot_be_kept_is_said_after_the_jobs_that_can(tmp_path):
    full, store = Store(tmp_path / "full"), Store(tmp_path)
    full.table.mkdir(parents=True)
    with pytest.raises(OSError, match=r"cannot be written .* job-1,ok"):
        SerialRunner(BenchmarkJobGenerator([Work(full), Work(store)])).run({})
    assert store.rows() == [FULL]


def test_a_file_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(OSError, match="name"):
        write_atomically(tmp_path / "name", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["name"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_that_cannot_be_written_costs_the_log_alone(tmp_path):
    log = tmp_path / "a.log"
    log.symlink_to("/dev/full")
    with quiet(log):
        sys.stdout.write("lost")


def test_the_row_is_there_when_pictures_cannot_be_written(tmp_path, caplog):
    store = Store(tmp_path)
    (tmp_path / "pictures").touch()
    store.save(Outcome(FULL, {}, {"a.npz": b"content"}))
    assert store.rows() == [FULL]
    assert "cannot be kept" in caplog.text


def test_states_and_pictures(tmp_path):
    store = Store(tmp_path)
    store.start("a", {"settings": {"seed": 1}})
    assert json.loads((tmp_path / "jobs/a.json").read_text(encoding="utf-8"))["state"] == "running"
    path = tmp_path / "content.npz"
    np.savez(path, maps=np.arange(3))
    store.save(Outcome(row(), {"extra": 1}, {"a.npz": path.read_bytes()}))
    store.save(Outcome(row(), {}, {"a.npz": b"another one"}))
    assert store.states()["a"]["row"]["job"] == "a"
    np.testing.assert_array_equal(read_pictures(store.pictures / "a.npz")["maps"], np.arange(3))


def test_many_processes_write_at_once(tmp_path):
    """Every line of every process arrives, and the header once."""
    script = """
import sys
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import Outcome, Store
for number in range(20):
    job = f"{sys.argv[2]}-{number}"
    Store(sys.argv[1]).save(Outcome(Row(job=job, status="ok", model="M" * 3000, dataset="D", seed=0)))
"""
    processes = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(index)]) for index in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    rows = list(read_rows(Store(tmp_path).table))
    assert sorted(entry.job for entry in rows) == sorted(
        f"{index}-{number}" for index in range(4) for number in range(20)
    )
