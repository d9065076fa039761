# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Whatever stands in a configuration or lies in the folder: an error that says what is wrong, or safe jobs."""

import contextlib
import csv
import io
import json

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anomalib_ssl.comparison.row import COLUMNS, Row
from anomalib_ssl.comparison.specification import specifications
from anomalib_ssl.comparison.store import Outcome, Store
from anomalib_ssl.comparison.table import read_rows
from anomalib_ssl.file_names import safe_name

FEW = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["../../victim", "/etc/passwd", "a.b", "$x$", "=1+1", "<b>", "..", "con", "a" * 300, "\ud800"]),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), NAMES)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers(), inner, max_size=3)
)
ENTRIES = st.dictionaries(
    st.sampled_from(["class_path", "init_args", "label", "seed", "trainer", "data", "pretrained", "grid", "other"]),
    PLAIN | st.sampled_from(["CutPaste", "MVTecAD"]),
)
GRIDS = st.fixed_dictionaries({"grid": st.lists(ENTRIES)})
BENCHMARKS = st.dictionaries(
    st.sampled_from(["model", "data", "seed", "trainer", "unknown"]),
    PLAIN | ENTRIES | GRIDS,
)


@FEW
@given(name=NAMES, other=NAMES)
def test_safe_names_are_names_of_files_and_tell_texts_apart(name, other):
    safe = safe_name(name)
    assert safe.isascii()
    assert safe.strip(".") == safe
    assert not set(safe) & set("/\\:$ \n")
    assert 0 < len(safe) < 200
    assert safe_name(safe) == safe
    assert (safe_name(other) == safe) == (other == name) or other == safe


@FEW
@given(benchmark=BENCHMARKS, seeds=st.none() | st.lists(st.integers(), max_size=2), category=st.none() | NAMES)
def test_configurations_give_safe_jobs_or_an_error(benchmark, seeds, category):
    with contextlib.suppress(ValueError):
        jobs = specifications(benchmark, "cpu", None, None if category is None else [category], seeds)
        assert jobs
        assert all(safe_name(job.name) == job.name for job in jobs)


@FEW
@given(text=st.text(max_size=60))
def test_any_yaml_gives_jobs_or_an_error(text):
    with contextlib.suppress(ValueError, yaml.YAMLError):
        specifications(yaml.safe_load(text))


VALUES = st.sampled_from(["ok", "0", "1", "nan", "inf", "-1", "1e999", "{}", "[", "True"])
CELLS = st.dictionaries(
    st.sampled_from(COLUMNS),
    NAMES | VALUES,
    min_size=1,
)


@FEW
@given(lines=st.lists(CELLS | st.binary(max_size=30), max_size=4), end=st.sampled_from([b"\n", b"\r\n", b""]))
def test_any_table_gives_the_rows_that_it_holds(tmp_path, lines, end):
    """What stands among good rows neither hides nor changes them, and nothing is written outside the folder."""
    store = Store(tmp_path / "out")
    good = [Row(job=f"good {side}", status="ok", model="M", dataset="D", seed=0) for side in "ab"]
    content = [_line(COLUMNS), _line(good[0].cells())]
    for line in lines:
        text = line if isinstance(line, bytes) else _line([line.get(column, "") for column in COLUMNS])
        content.append(b" ".join(text.split(b"\n")))
    store.folder.mkdir(exist_ok=True)
    store.table.write_bytes(b"\n".join([*content, _line(good[1].cells())]) + end)
    assert [row for row in read_rows(store.table) if row.job.startswith("good ")][:2] == good
    store.save(Outcome(Row(job="new", status="ok", model="M", dataset="D", seed=0)))
    assert {"good a", "good b", "new"} <= {row.job for row in store.rows()}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@FEW
@given(name=NAMES, content=PLAIN | st.fixed_dictionaries({"state": NAMES | st.just("ok"), "row": PLAIN}))
def test_any_file_of_a_job_is_read_or_left_out(tmp_path, name, content):
    store = Store(tmp_path / "out")
    store.save(Outcome(Row(job="good", status="ok", model="M", dataset="D", seed=0)))
    path = store.folder / "jobs" / f"{safe_name(name)}.json"
    path.write_text(json.dumps(content, default=str), encoding="utf-8")
    store.heal()
    assert "good" in {row.job for row in store.rows()}
    path.unlink()


def _line(cells):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="").writerow([" ".join(str(cell).splitlines()) for cell in cells])
    return buffer.getvalue().encode(errors="replace")
