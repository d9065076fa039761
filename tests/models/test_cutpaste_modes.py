# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Patch mode and ensembles, trained and run by anomalib's engine and command line."""

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine

from anomalib_ssl import CutPaste
from anomalib_ssl.models.cutpaste import CutPasteEnsemble, CutPasteModel, CutPastePatchModel
from anomalib_ssl.scoring import GaussianDensity, LocatedGaussianDensity

# Scars are given for images of 256 pixels, so that here they are four times smaller.
SMALL = {"backbone": "test_efficientnet", "image_size": 64, "visualizer": False, "head_dims": (16, 8), "max_updates": 2}
PATCH = {"mode": "patch", "train_crop_size": 32, "patch_size": 16, "stride": 8, "dense": "windows"}
MODES = {
    "windows": PATCH,
    "convolutional": {**PATCH, "dense": "convolutional"},
    "per_location": {**PATCH, "per_location": True, "window_precision": "bfloat16", "window_chunk": 50},
    "level7": {"backbone": "mobilenetv3_small_050", "layer": "level7", "freeze_updates": 1, "freeze_batch_norm": True},
    "ensemble": {"ensemble": 2},
    "patch_ensemble": {**PATCH, "dense": "convolutional", "ensemble": 2},
}


def data(root):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0)


def make_engine(path):
    return Engine(
        default_root_dir=path, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, logger=False
    )


@pytest.mark.parametrize("mode", MODES)
def test_train_test_predict_and_load(tmp_path, mvtec_root, mode):
    model = CutPaste(**{**SMALL, **MODES[mode]}, seed=0)
    engine = make_engine(tmp_path)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert engine.trainer.global_step in (0, 2)
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert len(predictions) == 4
    for prediction in predictions:
        assert prediction.anomaly_map.shape[-2:] == (64, 64)
        assert prediction.anomaly_map.isfinite().all()
        assert prediction.pred_score.isfinite().all()
        assert prediction.pred_label is not None

    loaded = CutPaste.load_from_checkpoint(engine.best_model_path).eval()
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, expected = loaded.model(images[..., :64, :64]), model.eval().model(images[..., :64, :64])
        assert expected.pred_score.std() > 0
        assert torch.equal(found.pred_score, expected.pred_score)
        assert torch.equal(found.anomaly_map, expected.anomaly_map)
        assert torch.equal(loaded(images).pred_score, model(images).pred_score)


def test_patch_mode_trains_on_crops(mvtec_root, tmp_path):
    model = CutPaste(**SMALL, **PATCH)
    shapes = []
    model.model.backbone.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)) if module.training else None
    )
    make_engine(tmp_path).fit(model, datamodule=data(mvtec_root))
    # Three views of each of three images.
    assert shapes == [(9, 3, 32, 32)] * 2
    # 7 x 7 windows of 6 training images.
    assert model.model.density.num_samples == 6 * 49


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], CutPasteModel),
        (["--model.mode", "patch"], CutPastePatchModel),
        (["--model.mode", "patch", "--model.dense", "windows"], CutPastePatchModel),
        (["--model.ensemble", "2"], CutPasteEnsemble),
    ],
)
def test_command_line(arguments, expected):
    flags = ["--model", "CutPaste", "--model.backbone", "test_efficientnet", *arguments]
    cli = AnomalibCLI(args=["train", *flags, "--data", "MVTecAD"], run=False)
    assert type(cli.model.model) is expected


def test_arguments_reach_the_patch_model():
    model = CutPaste(
        **SMALL | {"image_size": (64, 96)},
        mode="patch",
        train_crop_size=40,
        patch_size=24,
        stride=6,
        dense="windows",
        upsample_sigma=3.0,
        normalize_overlap=False,
        window_chunk=17,
        window_precision="bfloat16",
        per_location=True,
    )
    network = model.model
    assert model.views.crop.size == 40
    assert (network.patch_size, network.stride) == (24, 6)
    assert (network.upsample_sigma, network.normalize_overlap) == (3.0, False)
    assert (network.window_chunk, network.window_precision) == (17, "bfloat16")
    assert isinstance(network.density, LocatedGaussianDensity)
    assert network.density.grid_size == ((64 - 24) // 6 + 1, (96 - 24) // 6 + 1)
    assert isinstance(CutPaste(**SMALL, mode="patch").model.density, GaussianDensity)


def test_image_mode_does_not_crop():
    assert CutPaste(**SMALL).views.crop is None


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"mode": "pixel"}, "mode"),
        ({"train_crop_size": 65}, "train_crop_size"),
        ({"finetune_lr": 1e-4}, "finetune_lr"),
        ({"dense": "sparse"}, "dense"),
        ({"patch_size": 65}, "patch_size"),
        ({"stride": 0}, "stride"),
        ({"train_crop_size": 0}, "size"),
        ({"window_precision": "float16"}, "window_precision"),
        ({"upsample_sigma": -1.0}, "upsample_sigma"),
        ({"window_chunk": 0}, "window_chunk"),
        ({"ensemble": 0}, "ensemble"),
        ({"backbone": "test_resnet", "dense": "convolutional"}, "dense='windows'"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        CutPaste(**{**SMALL, **PATCH, **arguments})
