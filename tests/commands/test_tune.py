# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl tune``: a configuration of CutPaste from unlabelled images."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD

from anomalib_ssl.commands.tune import patches, tune

QUICK = {"updates": 4, "image_size": 32, "batch_size": 3, "backbone": "test_resnet", "outer_batch_size": 4}


@pytest.mark.parametrize(
    ("angle", "upright"),
    [(0, "wide"), (20, "wide"), (-20, "wide"), (80, "tall"), (-90, "tall"), (45, "either"), (-50, "either")],
)
def test_patches_stand_upright(angle, upright):
    found = patches({"area": 0.06, "aspect": 2.0, "angle": angle})
    wide, tall = [1.6, 2.5], [0.4, 0.625]
    assert found["area"] == [0.04, 0.09]
    assert found["aspect"] == {"wide": [wide, wide], "tall": [tall, tall], "either": [tall, wide]}[upright]


def test_areas_stay_possible():
    assert patches({"area": 0.8, "aspect": 1.0, "angle": 0.0})["area"] == [0.5333, 0.9]
    assert patches({"area": 0.0012, "aspect": 1.0, "angle": 0.0})["area"] == [0.001, 0.0018]


def test_command_writes_what_anomalib_trains_with(tmp_path, mvtec_root, monkeypatch):
    program = Path(sys.executable).with_name("anomalib-ssl")
    flags = [f"--{name}={value}" for name, value in QUICK.items()]
    command = [program, "tune", f"--data={mvtec_root}", "--category=plate", "--unlabeled-source=test", *flags]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "cutpaste_tuned.yaml"
    assert "TRANSDUCTIVE" in done.stderr
    path = tmp_path / "cutpaste_tuned.yaml"
    text = path.read_text()
    assert "# TRANSDUCTIVE: tuned with unlabelled test images." in text
    assert [path.name for path in (tmp_path / "results").rglob("v0/tuning.*")]
    settings = yaml.safe_load(text)["model"]["init_args"]
    assert settings["variant"] == "normal"

    monkeypatch.chdir(tmp_path)
    data = ["--data", "MVTecAD", f"--data.root={mvtec_root}", "--data.category=plate", "--data.num_workers=0"]
    cli = AnomalibCLI(args=["fit", "--config", str(path), *data, "--trainer.max_steps=1", "--trainer.accelerator=cpu"])
    assert cli.engine.trainer.global_step == 1
    assert list(cli.model.views.patch.area) == settings["patch"]["area"]
    assert [list(interval) for interval in cli.model.views.patch.aspect] == settings["patch"]["aspect"]


def test_datamodule_and_folder_of_unlabelled_images(tmp_path, mvtec_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datamodule = MVTecAD(root=mvtec_root, category="plate", val_split_mode="from_test", num_workers=0)
    output = tune(datamodule, "val", **QUICK, output=tmp_path / "a/from_val.yml")
    assert "TRANSDUCTIVE" not in output.read_text()
    shutil.copytree(mvtec_root / "plate/test", tmp_path / "incoming")
    normal = mvtec_root / "plate/train/good"
    output = tune(normal, str(tmp_path / "incoming"), augmentation="cutdiff", **QUICK, output=tmp_path / "b.yaml")
    assert "TRANSDUCTIVE" not in output.read_text()


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"output": Path("tuned.txt")}, ValueError, "output must name a .yaml"),
        ({"updates": 3}, ValueError, "updates"),
        ({"batch_size": 1}, ValueError, "batch_size"),
        ({"unlabeled_source": "val"}, ValueError, "needs a datamodule"),
        ({"category": "plate/train"}, FileNotFoundError, "no test/good"),
        ({"category": "nothing"}, FileNotFoundError, "no folder"),
    ],
)
def test_bad_arguments_are_named(mvtec_root, arguments, error, named):
    with pytest.raises(error, match=named):
        tune(**{"data": mvtec_root, "category": "plate", "unlabeled_source": "test", **arguments})
