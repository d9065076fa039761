# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Nothing mixes devices, and no training update waits for one: shown on a device that stands in for a GPU."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from anomalib_ssl import augmentations

AUGMENTATIONS = sorted(
    name
    for name in augmentations.__all__
    if isinstance(kind := getattr(augmentations, name), type)
    and issubclass(kind, augmentations.Augmentation)
    and not kind.__abstractmethods__
)

MODELS = sorted(entry_points(group="anomalib.models").names)

SCORING_WAITS = {"SSM": {"models/ssm/refinement.py"}}
"""Where scoring waits by design: SSM restores only what is hidden."""


@pytest.fixture(scope="module")
def survey(mvtec_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("survey")
    script = Path(__file__).with_name("survey.py")
    done = subprocess.run([sys.executable, script, mvtec_root, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-5_000:]
    return json.loads((folder / "survey.json").read_text())


def places(waits):
    return {wait.split(" in ")[1].split(",")[0] for wait in waits}


def test_the_device_notices_what_it_is_there_for(survey):
    found = survey["itself"]
    assert "error" not in found, found["error"]
    assert found["device"] == "standin:0"
    assert found["gradient"] == [5.0, 7.0, 9.0]
    assert "mixes devices" in found["mixed"]
    assert found["noted"] == ["aten._local_scalar_dense", "aten._to_copy", "aten.index"]
    assert found["same"]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentations_do_not_wait_and_give_what_the_cpu_gives(name, survey):
    found = survey["augmentations"][name]
    assert "error" not in found, found["error"]
    assert found["devices"] == ["standin:0"]
    assert found["waits"] == []
    assert found["difference"] < 1e-4


@pytest.mark.parametrize("name", MODELS)
def test_models_train_and_score_there(name, survey):
    found = survey["models"][name]
    assert "error" not in found, found["error"]
    assert found["devices"] == ["standin:0"]
    # Once: are these images that can be scored?
    assert places(found["first update"]) == {"training/refusals.py"}
    assert places(found["training"]) == set()
    assert 0 <= found["results"]["image_AUROC"] <= 1


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_waited_for_only_where_they_are_checked(name, survey):
    # Once a batch the mixin asks whether all scores are finite.
    found = survey["models"][name]
    assert places(found["scoring"]) <= {"training/evaluation.py"} | SCORING_WAITS.get(name, set())
