# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The study of what unlabelled images tell about sets of pastes."""

import importlib
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("defect_types")


def test_halves_share_nothing_and_hold_every_kind(script):
    types = ["cut"] * 4 + ["good"] * 6 + ["spot"] * 2
    first, second = script.halves(types, "mixed")
    assert sorted(first + second) == list(range(12))
    assert [types[row] for row in first] == [types[row] for row in second] == ["cut"] * 2 + ["good"] * 3 + ["spot"]
    assert [sorted({types[row] for row in rows}) for rows in script.halves(types, "cut")] == [["cut", "good"]] * 2
    assert script.kinds(types) == ["cut", "spot", "mixed"]


def test_rank_correlations_by_hand(script):
    types = ["good"] * 4 + ["cut"] * 4
    # One set tells both defects of each half, one a half of the pairs, one the wrong way round.
    scores = {"a": [0, 0, 0, 0, 1, 1, 1, 1], "b": [0, 0, 2, 2, 1, 1, 1, 1], "c": [1, 1, 1, 1, 0, 0, 0, 0]}
    held_out = {"a": [0, 0], "b": [0, 2], "c": [1, 1]}
    found = {
        "types": types,
        "sets": {
            name: {"scores": {"density": values}, "held-out": {"density": held_out[name]}}
            for name, values in scores.items()
        },
        "criteria": {
            "judge": {
                name: {kind: [{"right": value, "wrong": -value}] * 2 for kind in ("cut", "mixed")}
                for name, value in {"a": 1.0, "b": 2.0, "c": 3.0}.items()
            }
        },
    }
    assert script.aurocs(found, "a", "cut", "density") == [1.0, 1.0]
    assert script.aurocs(found, "b", "cut", "density") == [0.5, 0.5]
    assert script.between(found, "cut", "density") == "+1.00"
    # Half of the unlabelled images are defective: (1 - p) / 2 + p * (1 - AUROC).
    assert [script.overlaps(found, name, "cut", "density")[0] for name in scores] == [0.25, 0.5, 0.75]
    assert [script.spreads(found, name, "cut", "density")[0] for name in scores] == pytest.approx([0.5, 0.5**0.5, 0.5])
    # As numbers: nothing may be written +0.00 or -0.00.
    correlations = {name: float(value) for name, value in script.correlations(found, "cut", "density").items()}
    assert correlations == {
        "judge: right": -1,
        "judge: wrong": 1,
        "overlap of scores": -1,
        "spread of scores, negated": 0,
    }


def test_trainings_are_saved_one_by_one_and_go_on(script, tmp_path, mvtec_root, monkeypatch, capsys):
    out = tmp_path / "results/plate.json"
    small = {"num_random": 3, "updates": 1, "batch_size": 3, "image_size": 32, "backbone": "test_resnet"}
    train, trained = script.train, []

    def interrupted(*args):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(args)
        return train(*args)

    monkeypatch.setattr(script, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.benchmark(mvtec_root, "plate", out, **small)
    assert list(json.loads(out.read_text())["sets"]) == ["untrained", "default"]
    monkeypatch.setattr(script, "train", train)
    script.benchmark(mvtec_root, "plate", out, **small)
    found = json.loads(out.read_text())
    assert list(found["sets"])[:5] == ["untrained", "default", "random 0", "random 1", "random 2"]
    assert {name.split()[0] for name in list(found["sets"])[5:]} <= {"chosen", "strong"}
    assert "strong patch" in found["sets"]
    assert set(found["criteria"]) == {"untrained", "trained"}
    assert set(found["criteria"]["trained"]) == {"default", "random 0", "random 1", "random 2"}
    assert "spot" in capsys.readouterr().out
