# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste's own arguments, and its kinds trained, tested and loaded by anomalib's engine."""

import copy

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model

from anomalib_ssl import CutPaste, CutPastePatch
from anomalib_ssl.augmentations import ColorJitter, CutPasteScar, RandomShift
from anomalib_ssl.augmentations import CutPaste as CutPastePatches
from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.models.cutpaste import CutPasteEnsemble, CutPasteModel, CutPastePatchModel
from anomalib_ssl.scoring import GaussianDensity, LocatedGaussianDensity

SMALL = {"backbone": "test_efficientnet", "image_size": 64, "visualizer": False, "max_updates": 2}
PATCH = {"crop_size": 32, "window_size": 16, "stride": 8}

PASTES = {"patch": {"area": [0.05, 0.1]}, "scar": {"width": [3, 8], "angle": 20.0}, "shift": {"max_shift": 4}}
"""Augmentations as a configuration holds them; what is missing keeps its default."""


def fit(path, root, model):
    engine = Engine(default_root_dir=path, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False)
    datamodule = MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0)
    engine.train(model=model, datamodule=datamodule)
    return engine


def command_line(*arguments):
    return AnomalibCLI(args=["train", *arguments, "--data", "MVTecAD"], run=False).model


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CutPaste, {"backbone": "mobilenetv3_small_050", "layer": "level7", "pre_trained": True, "freeze_updates": 1}),
        (CutPaste, {"ensemble": 2}),
        (CutPastePatch, {**PATCH, "per_location": True}),
        (CutPastePatch, {**PATCH, "dense": "windows", "ensemble": 2}),
    ],
)
def test_kinds_are_trained_and_loaded(kind, arguments, tmp_path, mvtec_root):
    model = kind(**{**SMALL, **arguments}, seed=0)
    engine = fit(tmp_path, mvtec_root, model)
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model.eval()(images)
    assert expected.anomaly_map.shape == (3, 1, 64, 64)
    # The second does not fetch pretrained weights.
    for loaded in (kind.load_from_checkpoint(engine.best_model_path).eval(), load_checkpoint(engine.best_model_path)):
        with torch.no_grad():
            found = loaded(images)
        assert torch.equal(found.pred_score, expected.pred_score)
        assert torch.equal(found.anomaly_map, expected.anomaly_map)


def test_patch_model_trains_on_crops(tmp_path, mvtec_root):
    model = CutPastePatch(**SMALL, **PATCH)
    shapes = []
    model.model.backbone.register_forward_hook(
        lambda module, inputs, output: shapes.append(tuple(inputs[0].shape)) if module.training else None
    )
    fit(tmp_path, mvtec_root, model)
    # Three views of each of three images.
    assert shapes == [(9, 3, 32, 32)] * 2
    # 7 x 7 windows of 6 training images.
    assert model.model.scorer.maps["windows"].density.num_fitted == 6 * 49
    assert CutPaste(**SMALL).views.crop is None


def test_arguments_reach_the_patch_model():
    arguments = {"image_size": (64, 96), "crop_size": 40, "window_size": 24, "stride": 6, "dense": "windows"}
    model = CutPastePatch(**SMALL | arguments, per_location=True)
    network = model.model
    assert model.views.crop.size == 40
    assert (network.window_size, network.stride) == (24, 6)
    density = network.scorer.maps["windows"].density
    assert isinstance(density, LocatedGaussianDensity)
    assert density.grid_size == ((64 - 24) // 6 + 1, (96 - 24) // 6 + 1)
    assert isinstance(CutPastePatch(**SMALL).model.scorer.maps["windows"].density, GaussianDensity)


@pytest.mark.parametrize(
    ("arguments", "kind", "network"),
    [
        (["--model", "CutPaste"], CutPaste, CutPasteModel),
        (["--model", "CutPaste", "--model.ensemble", "2"], CutPaste, CutPasteEnsemble),
        (["--model", "CutPastePatch", "--model.crop_size", "32"], CutPastePatch, CutPastePatchModel),
    ],
)
def test_command_line_picks_the_kind(arguments, kind, network):
    model = command_line(*arguments, "--model.backbone", "test_efficientnet")
    assert (type(model), type(model.model)) == (kind, network)


# Augmentations as arguments


def assert_pastes(model):
    """Check that a model has the augmentations of ``PASTES``."""
    views = model.views
    assert views.patch == CutPastePatches(area=(0.05, 0.1))
    assert views.scar == CutPasteScar(width=(3, 8), angle=20.0)
    assert views.shift == RandomShift(4)
    assert views.jitter == ColorJitter()


def test_augmentations_by_value_and_by_mapping():
    values = {"patch": CutPastePatches((0.05, 0.1)), "scar": CutPasteScar((3, 8), angle=20.0), "shift": RandomShift(4)}
    for model in (
        CutPaste(**SMALL, **values),
        CutPaste(**SMALL, **PASTES),
        get_model("cutpaste", **SMALL, **PASTES),
        get_model({"class_path": "CutPaste", "init_args": {**SMALL, **PASTES}}),
        get_model("cut_paste_patch", **SMALL, **PASTES),
    ):
        assert_pastes(model)
        assert model.hparams["scar"]["width"] in ((3, 8), [3, 8])


def test_augmentations_on_the_command_line():
    flags = ["--model.patch.area", "[0.05, 0.1]", "--model.scar.width=[3,8]", "--model.scar.angle=20"]
    flags += ["--model.shift.max_shift", "4", "--model.backbone", "test_efficientnet"]
    for name in ("CutPaste", "CutPastePatch"):
        assert_pastes(command_line("--model", name, *flags))


def test_augmentations_in_a_configuration(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text(
        "model:\n"
        "  class_path: anomalib_ssl.models.CutPaste\n"
        "  init_args:\n"
        "    backbone: test_efficientnet\n"
        "    patch: {area: [0.05, 0.1]}\n"
        "    scar: {width: [3, 8], angle: 30}\n"
        "    shift: {max_shift: 4}\n"
    )
    assert_pastes(command_line("--config", str(path), "--model.scar.angle", "20"))


def test_augmentations_in_a_checkpoint(tmp_path, mvtec_root):
    model = CutPaste(**SMALL, patch=CutPastePatches((0.05, 0.1)), scar=PASTES["scar"], shift=PASTES["shift"])
    path = fit(tmp_path, mvtec_root, model).best_model_path
    # Plain data: this refuses classes.
    saved = torch.load(path, weights_only=True)["hyper_parameters"]
    assert tuple(saved["patch"]["area"]) == (0.05, 0.1)
    assert_pastes(CutPaste.load_from_checkpoint(path))


@pytest.mark.parametrize(
    ("arguments", "kind", "rate"),
    [
        ({}, torch.optim.AdamW, 0.001),
        ({"optimizer": "sgd"}, torch.optim.SGD, 0.03),
        ({"optimizer": "sgd", "lr": 0.1}, torch.optim.SGD, 0.1),
    ],
)
def test_optimizers_have_rates_of_their_own(arguments, kind, rate, tmp_path, mvtec_root):
    model = CutPaste(**SMALL, **arguments)
    before = copy.deepcopy(model.model.backbone.state_dict())
    engine = fit(tmp_path, mvtec_root, model)
    (optimizer,) = engine.trainer.optimizers
    assert type(optimizer) is kind
    assert optimizer.param_groups[0]["initial_lr"] == rate
    assert any(not torch.equal(value, before[name]) for name, value in model.model.backbone.state_dict().items())


# Errors


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"variant": "5way"}, "variant"),
        ({"backbone": "resnet19"}, "backbone"),
        ({"layer": "level8"}, "layer"),
        ({"ensemble": 0}, "ensemble"),
        ({"ensemble": 1.5}, "ensemble"),
        ({"freeze_updates": -1}, "freeze_updates"),
        ({"finetune_lr": -0.1}, "finetune_lr"),
        ({"finetune_lr": 1e-4}, "finetune_lr.*freeze_updates"),
        ({"optimizer": "adam"}, "optimizer"),
        ({"patch": {"area": (0.5, 0.1)}}, "patch: area"),
        ({"patch": {"aspect": ((0.0, 1.0), (1.0, 3.3))}}, "patch: aspect"),
        ({"patch": {"jitter": 0.6}}, "patch: jitter"),
        ({"patch": {"size": 3}}, "patch must hold .*'size'"),
        ({"patch": CutPasteScar()}, "patch must be a CutPaste .*CutPasteScar"),
        ({"patch": 0.1}, "patch must be a CutPaste .*0.1"),
        ({"scar": {"width": (0, 5)}}, "scar: width"),
        ({"shift": {"max_shift": -1}}, "shift: max_shift"),
        ({"jitter": {"hue": 0.6}}, "jitter: hue"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises((TypeError, ValueError), match=named):
        CutPaste(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"crop_size": 65}, "crop_size"),
        ({"crop_size": 0}, "crop_size"),
        ({"window_size": 65}, "window_size"),
        ({"stride": 0}, "stride"),
        ({"stride": 6}, "stride"),
        ({"dense": "sparse"}, "dense"),
        ({"backbone": "test_resnet", "dense": "convolutional"}, "dense='windows'"),
    ],
)
def test_bad_arguments_of_the_patch_model_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        CutPastePatch(**{**SMALL, **PATCH, **arguments})


def test_images_smaller_than_a_scar_are_refused_before_training(tmp_path, mvtec_root):
    model = CutPaste(**SMALL | {"image_size": 24}, scar={"reference_size": 24})
    with pytest.raises(ValueError, match="smaller than the largest scar"):
        fit(tmp_path, mvtec_root, model)
