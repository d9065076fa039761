# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The comparison of tuned with random parameters, one defect type at a time."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("defect_types")


def row(kind, seed, method, auroc, loss=1.0):
    numbers = {"image_AUROC": str(auroc), "validation_loss": str(loss)}
    return {"defect_type": kind, "seed": str(seed), "method": method, **numbers}


def test_summary_by_hand(script):
    rows = [
        row("cut", 0, "tuned", 0.9),
        row("cut", 0, "random 0", 0.8, 1.0),
        row("cut", 0, "random 1", 0.6, 1.2),
        row("cut", 1, "tuned", 0.7),
        row("cut", 1, "random 0", 0.5, 1.3),
        row("cut", 1, "random 1", 0.7, 1.1),
        row("bent", 0, "tuned", 0.5),
        # A seed that is not complete yet does not count, nor does a type without a counterpart.
        row("cut", 2, "tuned", 0.1),
    ]
    (line,) = script.summarize(rows)
    expected = {"tuned": 0.8, "random": 0.65, "best": 0.65, "difference": 0.15, "pairs": 2, "spearman": -1.0}
    assert line.pop("defect_type") == "cut"
    assert line == pytest.approx(expected)
    assert script.paired(rows) == pytest.approx([0.2, 0.1])


def test_results_are_saved_one_by_one_and_runs_go_on(script, tmp_path, mvtec_root, monkeypatch, capsys):
    out = tmp_path / "results/plate.csv"
    small = {"image_size": 32, "backbone": "test_resnet", "batch_size": 3, "outer_batch_size": 4, "num_starts": 1}
    small |= {"tuning_updates": 4, "training_updates": 2, "num_random": 1, "seeds": (0,)}
    done = []
    run = script.run

    def interrupted(*args):
        if done:
            raise KeyboardInterrupt
        done.append(run(*args))
        return done[0]

    monkeypatch.setattr(script, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.benchmark(mvtec_root, "plate", out, **small)
    assert [line["method"] for line in script.read(out)] == ["tuned"]
    monkeypatch.setattr(script, "run", run)
    rows = script.benchmark(mvtec_root, "plate", out, **small)
    assert [(line["defect_type"], line["method"], line["transductive"]) for line in rows] == [
        ("spot", "tuned", "True"),
        ("spot", "random 0", "False"),
    ]
    assert rows[0]["image_AUROC"] == done[0]["image_AUROC"]
    assert all(0 <= float(line["image_AUROC"]) <= 1 and float(line["validation_loss"]) > 0 for line in rows)
    # What was not tuned is what was drawn.
    drawn = script.random_parameters({"image_size": 32, "backbone": "test_resnet"}, 0)
    assert float(rows[1]["area"]) == pytest.approx(drawn["area"], rel=1e-3)
    assert "TRANSDUCTIVE" in capsys.readouterr().out
    monkeypatch.setattr(script, "run", None)
    assert script.benchmark(mvtec_root, "plate", out, **small) == rows


def test_random_parameters_differ_and_keep_their_bounds(script):
    arguments = {"image_size": 32, "backbone": "test_resnet", "area": [0.01, 0.02]}
    drawn = [script.random_parameters(arguments, number) for number in range(4)]
    assert len({values["area"] for values in drawn}) == 4
    assert all(0.01 < values["area"] < 0.02 and 0.3 < values["aspect"] < 3.3 for values in drawn)
    assert drawn[0] == script.random_parameters(arguments, 0)
