# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Benchmarks in several processes, and processes that are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from anomalib_ssl import cli
from anomalib_ssl.comparison.store import Store
from anomalib_ssl.comparison.table import read_rows

pytestmark = pytest.mark.slow


def entries(configuration, seeds):
    """Only the first model, with these seeds."""
    benchmark = configuration["benchmark"]
    model = {**benchmark["model"]["grid"][0], "seed": seeds}
    return {**configuration, "throughput_batch_size": 0, "benchmark": {**benchmark, "model": model}}


def test_a_killed_benchmark_is_resumed(configuration, tmp_path, capsys):
    """Kill -9 after the first of three jobs; then each job is there once."""
    config, store = tmp_path / "config.yaml", Store(tmp_path / "out")
    config.write_text(yaml.safe_dump(entries(configuration, [0, 1, 2])), encoding="utf-8")
    arguments = ["benchmark", "--config", str(config), "--output", str(store.folder)]
    program = Path(sys.executable).with_name("anomalib-ssl")
    process = subprocess.Popen([program, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 240
        while not store.rows() and time.monotonic() < limit:
            assert process.poll() is None, "ended before it was killed"
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    killed = list(read_rows(store.table))
    assert 1 <= len(killed) < 3
    assert cli.main([*arguments, "--resume"]) == 0
    rows = list(read_rows(store.table))
    assert rows[: len(killed)] == killed
    assert sorted(row.seed for row in rows) == [0, 1, 2]
    assert f"{len(killed)} done before" in capsys.readouterr().out


def test_parallel_jobs_find_what_serial_ones_find(configuration, tmp_path, write):
    """Through anomalib's ParallelRunner, in two processes."""
    config = write(entries(configuration, [0, 1]))
    for name, flags in (("serial", []), ("parallel", ["--runner", "parallel", "--workers", "2"])):
        assert cli.main(["benchmark", "--config", str(config), "--output", str(tmp_path / name), *flags]) == 0
    serial, parallel = ({row.seed: row for row in Store(tmp_path / name).rows()} for name in ("serial", "parallel"))
    assert set(serial) == set(parallel) == {0, 1}
    for seed, row in serial.items():
        assert parallel[seed].job == row.job
        assert parallel[seed].image_AUROC == pytest.approx(row.image_AUROC, abs=1e-6)
        assert parallel[seed].pixel_AUROC == pytest.approx(row.pixel_AUROC, abs=1e-4)
    assert len(list((tmp_path / "parallel/pictures").glob("*.npz"))) == 3


def test_two_benchmarks_in_one_folder_share_the_jobs(configuration, tmp_path):
    """Started together, they do each job once, and both end well."""
    config, store = tmp_path / "config.yaml", Store(tmp_path / "out")
    config.write_text(yaml.safe_dump(entries(configuration, [0, 1, 2, 3])), encoding="utf-8")
    program = Path(sys.executable).with_name("anomalib-ssl")
    command = [program, "benchmark", "--config", str(config), "--output", str(store.folder), "--resume"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate(timeout=400)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(row.seed for row in read_rows(store.table)) == [0, 1, 2, 3]
    assert all("Results:" in text for text in printed)
