# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a user does: anomalib's own command line, in real processes, on a small data set."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data.utils import read_image
from anomalib.deploy import TorchInferencer

from anomalib_ssl import CutPaste

ROOT = Path(__file__).parents[1]
MODEL = ["--model", "CutPaste", "--model.backbone", "resnet10t", "--model.image_size", "64"]


def anomalib(*arguments, cwd, check=True) -> subprocess.CompletedProcess:
    """Run ``anomalib`` as installed beside this interpreter."""
    command = [str(Path(sys.executable).with_name("anomalib")), *map(str, arguments)]
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if check and result.returncode:
        pytest.fail(f"{' '.join(command)}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result


def data(root):
    return ["--data", "MVTecAD", "--data.root", root, "--data.category", "plate", "--data.num_workers", "0"]


def metrics_in(output) -> dict[str, float]:
    """The table of metrics at the end of a test."""
    return {name: float(value) for name, value in re.findall(r"(\w+_(?:AUROC|F1Score))\s*│\s*([\d.]+)", output)}


@pytest.fixture(scope="module")
def training(tmp_path_factory, mvtec_root) -> tuple[Path, dict[str, float]]:
    """A run of ``anomalib train`` from flags: its folder, and the metrics it printed."""
    cwd = tmp_path_factory.mktemp("train")
    options = ["--data.train_batch_size", 4, "--trainer.accelerator", "cpu"]
    flags = [*MODEL, "--model.max_updates", 6, "--model.seed", 0, *data(mvtec_root), *options]
    result = anomalib("train", *flags, cwd=cwd)
    return cwd / "results/CutPaste/MVTecAD/plate/latest", metrics_in(result.stdout)


@pytest.fixture(scope="module")
def checkpoint(training) -> Path:
    return training[0] / "weights/lightning/model.ckpt"


def test_train_writes_metrics_checkpoint_and_heat_maps(training, checkpoint):
    trained, metrics = training
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6
    heat_maps = sorted(path.relative_to(trained).as_posix() for path in (trained / "images").rglob("*.png"))
    assert len(heat_maps) == 8
    assert "images/spot/000.png" in heat_maps


def test_a_smaller_limit_of_the_trainer_wins(tmp_path, mvtec_root):
    anomalib("fit", *MODEL, *data(mvtec_root), "--data.train_batch_size", 2, "--trainer.max_steps", 2, cwd=tmp_path)
    weights = tmp_path / "results/CutPaste/MVTecAD/plate/v0/weights/lightning/model.ckpt"
    assert torch.load(weights, weights_only=True)["global_step"] == 2


@pytest.mark.slow
def test_configuration_file(tmp_path, mvtec_root):
    config = ROOT / "configs/model/cutpaste.yaml"
    flags = ["--model.backbone", "resnet10t", "--model.image_size", 64, "--trainer.max_epochs", 1]
    anomalib("train", "--config", config, *flags, *data(mvtec_root), "--data.train_batch_size", 2, cwd=tmp_path)
    weights = tmp_path / "results/CutPaste/MVTecAD/plate/v0/weights/lightning/model.ckpt"
    saved = torch.load(weights, weights_only=True)
    assert saved["global_step"] == 3
    assert saved["hyper_parameters"]["max_updates"] == 10_000


def test_test_gives_the_metrics_of_training(training, checkpoint, mvtec_root, tmp_path):
    result = anomalib("test", *MODEL, *data(mvtec_root), "--ckpt_path", checkpoint, cwd=tmp_path)
    assert metrics_in(result.stdout) == pytest.approx(training[1], abs=1e-6)


def test_predict_a_folder(checkpoint, mvtec_root, tmp_path):
    images = mvtec_root / "plate/test/spot"
    anomalib("predict", *MODEL, "--data", images, "--ckpt_path", checkpoint, cwd=tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*.png")) == [f"{i:03d}.png" for i in range(4)]


@pytest.mark.slow
def test_export_to_torch_equals_eager(checkpoint, mvtec_root, monkeypatch, tmp_path):
    anomalib("export", *MODEL, "--export_type", "torch", "--ckpt_path", checkpoint, cwd=tmp_path)
    (path,) = tmp_path.rglob("model.pt")
    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    inferencer = TorchInferencer(path, device="cpu")
    model = CutPaste.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    for name in ("good/000.png", "spot/001.png"):
        image = read_image(mvtec_root / "plate/test" / name, as_tensor=True)
        prediction = inferencer.predict(image)
        with torch.no_grad():
            expected = model(image[None])
        torch.testing.assert_close(prediction.pred_score, expected.pred_score, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            prediction.anomaly_map.as_subclass(torch.Tensor).squeeze(),
            expected.anomaly_map.squeeze(),
            atol=1e-4,
            rtol=0,
        )


@pytest.mark.slow
def test_export_to_onnx_equals_eager(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    arguments = ["--export_type", "onnx", "--input_size", "[80,80]", "--ckpt_path", checkpoint]
    exported = anomalib("export", *MODEL, *arguments, cwd=tmp_path)
    assert "Traceback" not in exported.stdout + exported.stderr
    (path,) = tmp_path.rglob("model.onnx")
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    model = CutPaste.load_from_checkpoint(checkpoint, map_location="cpu").eval()
    for batch in (1, 4):
        images = torch.rand(batch, 3, 80, 80, generator=torch.Generator().manual_seed(batch))
        outputs = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        with torch.no_grad():
            expected = model(images)
        np.testing.assert_allclose(outputs["pred_score"], expected.pred_score.numpy(), atol=1e-4)
        np.testing.assert_allclose(outputs["anomaly_map"], expected.anomaly_map.numpy(), atol=1e-4)
        assert (outputs["pred_label"] == expected.pred_label.numpy()).all()


@pytest.mark.slow
def test_benchmark_by_short_class_name(tmp_path, mvtec_root):
    (tmp_path / "datasets/MVTecAD").mkdir(parents=True)
    (tmp_path / "datasets/MVTecAD/bottle").symlink_to(mvtec_root / "plate", target_is_directory=True)
    anomalib("benchmark", "--config", ROOT / "configs/benchmark/smoke.yaml", cwd=tmp_path)
    (table,) = tmp_path.rglob("results.csv")
    rows = list(csv.DictReader(table.open()))
    assert [row["model.init_args.variant"] for row in rows] == ["3way", "union"]
    assert all(0 <= float(row["image_AUROC"]) <= 1 for row in rows)


@pytest.mark.parametrize(
    ("flag", "value", "named"), [("variant", "5way", "variant"), ("backbone", "resnet19", "backbone")]
)
def test_bad_arguments_end_the_command_with_their_name(tmp_path, mvtec_root, flag, value, named):
    result = anomalib("train", *MODEL, f"--model.{flag}", value, *data(mvtec_root), cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert named in result.stdout + result.stderr
    assert value in result.stdout + result.stderr


@pytest.mark.slow
def test_learns_on_photographs(tmp_path):
    root = os.environ.get("ANOMALIB_SSL_TEST_DATA")
    if not root:
        pytest.skip("ANOMALIB_SSL_TEST_DATA names no folder of photographs in MVTec layout")
    from anomalib.data import MVTecAD
    from anomalib.engine import Engine

    datamodule = MVTecAD(root=root, category="hazelnut_toy", train_batch_size=8, num_workers=0)
    engine = Engine(default_root_dir=tmp_path, enable_progress_bar=False, accelerator="cpu", precision="bf16-mixed")
    model = CutPaste(image_size=64, max_updates=60, seed=0, visualizer=False)
    (metrics,) = engine.train(model=model, datamodule=datamodule)
    assert metrics["image_AUROC"] > 0.8
