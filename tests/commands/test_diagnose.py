# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl diagnose``: what is printed of a checkpoint, and what is refused."""

import re

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine

from anomalib_ssl import AutoencoderProjection, CutPaste, cli
from anomalib_ssl.commands.diagnose import ROWS, load, table

SMALL = {"image_size": 32, "visualizer": False, "max_updates": 1, "seed": 0}


def train(model, path, root):
    engine = Engine(default_root_dir=path, accelerator="cpu", enable_progress_bar=False, limit_val_batches=0)
    datamodule = MVTecAD(root=root, category="plate", train_batch_size=4, num_workers=0)
    engine.fit(model, datamodule=datamodule)
    return engine.best_model_path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, mvtec_root):
    model = AutoencoderProjection(**SMALL, widths=(3, 4, 5), sdc_layers=1, sdc_width=3)
    return train(model, tmp_path_factory.mktemp("run"), mvtec_root)


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setenv("COLUMNS", "160")
    capsys.readouterr()
    code = cli.main(["diagnose", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_table_with_a_row_for_each_property(capsys, monkeypatch, checkpoint, mvtec_root):
    arguments = ("--ckpt_path", checkpoint, "--data", mvtec_root, "--category", "plate", "--count", 4)
    code, out, _ = run(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "4 images" in out
    model = load(checkpoint)
    for title, ideal, _ in ROWS.values():
        (cells,) = (line.split("│")[2:5] for line in out.splitlines() if line.startswith(f"│ {title} "))
        assert cells[0].strip() == ideal
        assert len(re.findall(r"\d[\d.e+-]*", cells[1] + cells[2])) == 3
    assert run(capsys, monkeypatch, *arguments)[1] == out
    assert run(capsys, monkeypatch, *arguments, "--seed", 1)[1] != out
    assert not model.model.training


def test_measured_values_are_those_of_the_model(checkpoint):
    model = load(checkpoint)
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    measured = model.diagnose(images, torch.Generator().manual_seed(0))
    assert set(measured) == set(ROWS)
    with torch.no_grad():
        fixed = (model.model.autoencoder(images) - images).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(measured["fixed_point"], fixed)
    assert table(measured, 3).row_count == len(ROWS)


def test_a_datamodule_gives_its_training_images(capsys, monkeypatch, checkpoint, mvtec_root):
    options = ("--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--count", 100)
    code, out, _ = run(capsys, monkeypatch, "--ckpt_path", checkpoint, *options)
    assert code == 0
    assert "6 images" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ckpt_path", "nowhere.ckpt", "--data", "x"), "there is no file 'nowhere.ckpt'"),
        (("--ckpt_path", "checkpoint", "--data", "nowhere"), "there is no folder 'nowhere'"),
        (("--ckpt_path", "checkpoint", "--data", "x", "--count", "0"), "count must lie in"),
        (("--ckpt_path", __file__, "--data", "x"), "is not a checkpoint of AutoencoderProjection"),
    ],
)
def test_errors_are_one_line(capsys, monkeypatch, checkpoint, arguments, message):
    arguments = [checkpoint if argument == "checkpoint" else argument for argument in arguments]
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert (code, err.strip().count("\n")) == (2, 0)
    assert message in err


def test_a_checkpoint_of_another_model_is_refused(tmp_path, mvtec_root):
    path = train(CutPaste(**SMALL, backbone="test_resnet"), tmp_path, mvtec_root)
    with pytest.raises(ValueError, match="is not a checkpoint of AutoencoderProjection"):
        load(path)
