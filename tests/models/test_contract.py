# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What every registered model promises. A new model gets all of it by one line in ``SMALL``."""

import copy
import os
import pickle
import random
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder, MVTecAD
from anomalib.deploy import CompressionType
from anomalib.engine import Engine
from anomalib.models import get_model, list_models
from anomalib.utils.path import convert_to_snake_case
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from PIL import Image
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torchmetrics.classification import BinaryAUROC
from torchvision.io import write_png

from anomalib_ssl.qualification.scores import score
from anomalib_ssl.scoring import NotFittedError

SMALL = {
    "AutoencoderProjection": {"widths": [4, 8, 16], "sdc_layers": 1, "sdc_width": 4},
    "CutPaste": {"backbone": "test_resnet"},
    "CutPastePatch": {"backbone": "test_resnet", "crop_size": 32, "window_size": 32, "stride": 16, "dense": "windows"},
    "DynamicLocalAugmentation": {"backbone": "test_resnet", "mc_samples": 2},
    "NSA": {"backbone": "test_resnet"},
    "SSM": {"widths": [4, 8, 8], "refinement_passes": 2},
    "STSSAD": {"backbone": "test_resnet", "unlabeled_source": "test"},
}
"""Arguments that make each model small enough for a test."""

LEARNED = {
    "AutoencoderProjection": (
        0,
        150,
        {"lr": 3e-3, "corruption": {"fills": ["flat"]}, "widths": [8, 16, 32], "score": "pixels_both_max"},
    ),
    "CutPaste": (1, 60, {"score": "density", "lr": 1e-2}),
    "CutPastePatch": (1, 40, {"score": "windows_max", "lr": 1e-2}),
    "DynamicLocalAugmentation": (4, 60, {"score": "distance_max"}),
    "NSA": (4, 60, {"score": "change_mean"}),
    "SSM": (0, 120, {"lr": 5e-3, "widths": [8, 16, 16], "score": "pixels_both_max"}),
    "STSSAD": (1, 60, {"score": "density", "lr": 1e-2}),
}
"""A defect that each model learns to find, see ``stripes``, in how many updates, and with which arguments.

Scored in the methods' own ways: places tell these defects without any training.
"""

MODELS = sorted(entry_points(group="anomalib.models").names)

AUTO = {"score": "auto", "heat_map": "auto"}


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


OF_FEW = {"rtol": 0.03, "atol": 0.03}
"""Six images are compared as if each had not been fitted to, which magnifies what float32 rounds away."""


def build(name, **arguments):
    small = {"image_size": 64, "max_updates": 4, "seed": 0, "visualizer": False, **SMALL[name]}
    return get_model(convert_to_snake_case(name), **{**small, **arguments})


def plate(root, **arguments):
    settings = {"train_batch_size": 3, "eval_batch_size": 4, "num_workers": 0, **arguments}
    return MVTecAD(root=root, category="plate", **settings)


def batches_under_test(root):
    """Batches of test images."""
    datamodule = plate(root)
    datamodule.setup("test")
    return datamodule.test_dataloader()


def engine(folder, **arguments):
    return Engine(accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False, **arguments)


def some_images(count=4, height=64, width=64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def scores(torch_model, images):
    """Scores and maps of images in [0, 1]."""
    found = torch_model.eval()(images)
    return torch.cat([found.pred_score.flatten(), found.anomaly_map.flatten()])


class At(Callback):
    """Do something after an update."""

    def __init__(self, update, action):
        self.update, self.action = update, action

    def on_train_batch_end(self, trainer, module, *args):
        if trainer.global_step == self.update:
            self.action(trainer, module)


@pytest.fixture(scope="module")
def trained(name, mvtec_root, tmp_path_factory):
    """A run of each model: the model, its checkpoint and its test results."""
    folder = tmp_path_factory.mktemp(name)
    model, runner = build(name), engine(folder)
    runner.fit(model, datamodule=plate(mvtec_root))
    results = runner.test(model, datamodule=plate(mvtec_root))
    return model, runner.trainer.checkpoint_callback.best_model_path, results[0]


def test_no_argument_is_needed(name):
    assert name in list_models(case="pascal")
    model = get_model(convert_to_snake_case(name))
    # What anomalib's checkpoints can hold, the arguments that all models share among it.
    assert {"max_updates", "in_memory", "image_size"} <= set(model.hparams)
    assert pickle.loads(pickle.dumps(dict(model.hparams))) == dict(model.hparams)
    with pytest.raises(TypeError, match="unknown"):
        get_model(convert_to_snake_case(name), unknown=1)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("image_size", "abc"),
        ("image_size", (64,)),
        ("image_size", 0),
        ("max_updates", 2.5),
        ("max_updates", 0),
        ("memory_limits", 5),
        ("memory_limits", (-1.0, 1.0)),
        ("updates_per_epoch", 0),
        ("seed", "x"),
        ("seed", -1),
        ("lr", "x"),
        ("lr", 0),
        ("pre_processor", "resize"),
        ("post_processor", 3),
        ("evaluator", "AUROC"),
        ("visualizer", None),
    ],
)
def test_bad_arguments_are_named(name, argument, value):
    with pytest.raises((TypeError, ValueError), match=argument):
        build(name, **{argument: value})


def test_global_random_state_is_left_alone(name):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    first, second = build(name), build(name)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    weights = second.model.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in first.model.state_dict().items())


def test_command_line(name, mvtec_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = [f"--model.{key}={str(value).replace(chr(39), '')}" for key, value in SMALL[name].items()]
    shared = ["--model.image_size", "64", "--model.max_updates", "2", "--model.memory_limits", "[1,2]"]
    data = ["--data", "MVTecAD", "--data.root", str(mvtec_root), "--data.category", "plate", "--data.num_workers", "0"]
    AnomalibCLI(args=["train", "--model", name, *flags, *shared, *data, "--trainer.accelerator", "cpu"])
    (path,) = tmp_path.rglob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 2
    assert saved["hyper_parameters"]["max_updates"] == 2
    assert len(list(tmp_path.rglob("*.png"))) >= 8


def test_untrained_models_refuse_to_score(name, tmp_path):
    model = build(name).eval()
    with pytest.raises(NotFittedError, match="train the model"):
        model(some_images())
    with pytest.raises(NotFittedError, match="train it, or give ckpt_path"):
        build(name).to_torch(tmp_path)


def test_fitting_in_training_mode_is_fitting_in_evaluation_mode(name):
    expected, model = build(name).model.eval(), build(name).model.train()
    for one in (expected, model):
        one.fit([some_images()])
    assert model.training
    found = model.state_dict()
    assert [key for key, value in expected.state_dict().items() if not torch.equal(value, found[key])] == []


def test_a_fit_that_fails_leaves_nothing_to_score_with(name):
    model = build(name).model.eval()
    for spoilt in ([], [some_images() * torch.nan]):
        model.fit([some_images()])
        with pytest.raises(ValueError, match=r"got none|finite|at least|diverged|fewer"):
            model.fit(spoilt)
        with pytest.raises(NotFittedError):
            model(some_images())


def test_results_are_finite_and_restored(name, trained, mvtec_root, tmp_path):
    model, checkpoint, results = trained
    assert {"image_AUROC", "pixel_AUROC"} <= set(results)
    loaded = type(model).load_from_checkpoint(checkpoint, map_location="cpu")
    torch.testing.assert_close(
        scores(loaded.model, some_images()), scores(model.model, some_images()), rtol=1e-5, atol=1e-6
    )
    again = engine(tmp_path).test(build(name), datamodule=plate(mvtec_root), ckpt_path=checkpoint)[0]
    assert again == pytest.approx(results, abs=1e-6)
    predictions = engine(tmp_path).predict(build(name), datamodule=plate(mvtec_root), ckpt_path=checkpoint)
    assert sum(len(batch.pred_score) for batch in predictions) == 8


def test_a_checkpoint_is_scored_with_as_it_was_fitted(trained):
    model, checkpoint, _ = trained
    of_windows = {"stride": (4, 8), "window_size": (16, 32)}
    of_masks = {"cell_sizes": ((4,),), "num_masks": (2, 3), "initial_masks": ("checkerboard",)}
    others = of_windows | of_masks | {"refinement_passes": (1, 2)}
    for argument in model.fitted_by - {"dense"}:  # the small network can be scored in one way only
        saved = model.hparams[argument]
        other = next(other for other in others.get(argument, (True, False)) if other != saved)
        reason = re.escape(f"{argument} must be {saved} for this checkpoint, got {other}")
        with pytest.raises(ValueError, match=reason):
            type(model).load_from_checkpoint(checkpoint, map_location="cpu", **{argument: other})


def test_thresholds_of_another_score_are_left_out(name, trained, mvtec_root, tmp_path, caplog):
    scorer = trained[0].model.scorer
    other = next(score for score in scorer.score_names if score not in scorer.chosen[0].split("+"))
    model, runner = build(name, score=other), engine(tmp_path)
    runner.test(model, datamodule=plate(mvtec_root), ckpt_path=trained[1])
    assert "has another score than its checkpoint" in caplog.text
    post = model.post_processor
    assert all(value.isnan() for value in (post.image_threshold, post.image_min, post.pixel_threshold))
    caplog.clear()
    runner.validate(model, datamodule=plate(mvtec_root), ckpt_path=trained[1])
    assert "another score" not in caplog.text
    assert post.image_threshold.isfinite()
    assert post.image_min <= post.image_max


def test_images_of_any_size_are_scored_as_anomalib_predicts(trained, tmp_path):
    """Which resizes with antialiasing, as training does."""
    images = [(some_images(1, 256, 256)[0] * 255).to(torch.uint8)]
    write_png(images[0], str(tmp_path / "fine.png"))
    model = type(trained[0]).load_from_checkpoint(trained[1], map_location="cpu")
    model.post_processor = model.evaluator = None
    (found,) = engine(tmp_path).predict(model, data_path=tmp_path / "fine.png")
    assert float(found.pred_score) == pytest.approx(score(model, images).scores[0], rel=1e-4, abs=1e-4)


def test_a_checkpoint_of_a_model_that_was_built_otherwise_is_refused(name, trained):
    saved = torch.load(trained[1], weights_only=True)
    for other, reason in (
        (build("SSM" if name == "NSA" else "NSA"), f"cannot be loaded from a checkpoint of {name}"),
        (build(name, image_size=128), r"image_size is 128, not 64\. Give it the arguments"),
    ):
        other.on_load_checkpoint(saved)
        with pytest.raises(ValueError, match=reason):
            other.load_state_dict(saved["state_dict"])


def test_scores_of_training_images_are_readable(trained, mvtec_root):
    model, datamodule = trained[0], plate(mvtec_root)
    datamodule.setup()
    images = model.pre_processor.transform(torch.stack([item.image for item in datamodule.train_data]))
    assert scores(model.model, images).abs().max() < 20


def test_another_light_changes_no_score(trained):
    """Unless it is asked for: a whole image that is darker is no defect."""
    model, images = copy.deepcopy(trained[0]), some_images()
    known = scores(model.model, images)
    torch.testing.assert_close(scores(model.model, 0.5 * images), known, rtol=0.02, atol=0.02)
    model.equal_exposure = False
    model.fit_statistics([images])
    known = scores(model.model, images)
    assert not torch.allclose(scores(model.model, 0.5 * images), known, rtol=0.02, atol=0.02)


@pytest.fixture(scope="module")
def choosing(name, tmp_path_factory):
    """A run with enough images to choose by: the model, its checkpoint, what was logged, and training images."""
    folder = tmp_path_factory.mktemp(name)
    datamodule = striped(folder / "stripes", 1)
    model, runner = build(name, **AUTO), engine(folder / "run", limit_val_batches=1)
    runner.fit(model, datamodule=datamodule)
    images = torch.stack([item.image for item in datamodule.train_data])
    return model, runner.trainer.checkpoint_callback.best_model_path, runner.trainer.callback_metrics, images


def test_what_tells_planted_defects_best_is_chosen(choosing):
    model, _, logged, images = choosing
    scorer = model.model.scorer
    # Two of the 24 images were held out.
    assert scorer.num_fitted == 22
    judged = scorer.judged_scores, scorer.judged_maps
    # Besides the candidates there may be several that are joined by default.
    single = [[name for name in names if "+" not in name] for names in judged]
    assert single == [scorer.score_names, scorer.map_names]
    for metric, names, chosen in zip(("image_AUROC", "pixel_AUROC"), judged, scorer.chosen, strict=True):
        assert names[chosen] == max(names.values())
        assert float(logged[f"held_out_{metric}"]) == pytest.approx(names[chosen], abs=1e-6)
    assert scores(model.model, images).abs().max() < 20


def test_the_choice_is_restored(choosing):
    model, checkpoint, _, images = choosing
    loaded = type(model).load_from_checkpoint(checkpoint, map_location="cpu")
    for name in ("chosen", "judged_scores", "judged_maps"):
        assert getattr(loaded.model.scorer, name) == getattr(model.model.scorer, name)
    torch.testing.assert_close(scores(loaded.model, images), scores(model.model, images), rtol=1e-5, atol=1e-5)
    # Whatever it is.
    scorer, judged = loaded.model.scorer, torch.zeros_like(loaded.model.scorer.judged)
    judged[[1, len(scorer.score_names) + 2]] = 1
    loaded.load_state_dict({**loaded.state_dict(), "model.scorer.judged": judged})
    assert scorer.chosen == (scorer.score_names[1], scorer.map_names[1])


def test_a_trained_model_scores_in_any_way(choosing):
    model, checkpoint, images = copy.deepcopy(choosing[0]), choosing[1], choosing[3][:6]
    torch_model = model.model.eval()
    with torch.no_grad():
        exposed = torch_model.exposure(images)
        expected = torch_model.scorer.candidates(exposed, torch_model.evidence)
        for part in torch_model.scorer.maps.values():
            part.sigma = 0.0
        sharp = torch_model.scorer.candidates(exposed, torch_model.evidence)
    for heat_map, maps in expected.items():
        named = {"score": f"{heat_map}_max", "heat_map": heat_map}
        loaded = type(model).load_from_checkpoint(checkpoint, map_location="cpu", **named)
        with torch.no_grad():
            found = loaded.model.eval()(images)
        torch.testing.assert_close(found.anomaly_map, maps, rtol=1e-4, atol=1e-4)
        # Numbers are of maps before they are smoothed.
        order = sharp[heat_map].amax(dim=(1, 2, 3)).argsort()
        assert (found.pred_score[order].diff() > -1e-3).all()


def test_few_images_leave_the_defaults(name, mvtec_root, tmp_path):
    model, runner = build(name, **AUTO), engine(tmp_path)
    defaults = model.model.scorer.chosen
    runner.fit(model, datamodule=plate(mvtec_root))
    assert model.model.scorer.chosen == defaults
    assert model.held_out_metrics == {}
    assert not any(metric.startswith("held_out") for metric in runner.trainer.callback_metrics)


@pytest.mark.parametrize("argument", ["score", "heat_map"])
def test_unknown_candidates_are_errors(name, argument):
    scorer = build(name).model.scorer
    names = scorer.score_names if argument == "score" else scorer.map_names
    with pytest.raises(ValueError, match=rf"{argument} must be one of \[.*'auto'.*\], got 'nonsense'") as error:
        build(name, **{argument: "nonsense"})
    assert all(repr(candidate) in str(error.value) for candidate in names)


def test_copies_score_alike(name, trained):
    model = trained[0]
    expected = scores(model.model, some_images())
    for copied in (copy.deepcopy(model).model, pickle.loads(pickle.dumps(model.model))):
        assert torch.equal(scores(copied, some_images()), expected)


@pytest.mark.slow
def test_training_after_scoring(name, mvtec_root, tmp_path):
    model, modes = build(name).eval(), []
    model.fit_statistics([some_images(6)])
    scores(model.model, some_images())
    for _ in range(2):
        note = At(1, lambda _, module: modes.extend([module.model.training, *training_modes(module)]))
        runner = engine(tmp_path, callbacks=[note])
        runner.fit(model, datamodule=plate(mvtec_root))
        runner.test(model, datamodule=plate(mvtec_root))
    assert len(modes) > 1
    assert all(modes)


def training_modes(module):
    return [part.training for part in module.model.modules() if isinstance(part, _BatchNorm)]


def test_every_checkpoint_holds_statistics_of_its_own_weights(name, mvtec_root, tmp_path):
    saving = At(3, lambda trainer, _: trainer.save_checkpoint(tmp_path / "own.ckpt"))
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=2, save_top_k=-1, save_weights_only=True)
    runner = engine(tmp_path / "run", callbacks=[saving, every], val_check_interval=3, check_val_every_n_epoch=None)
    datamodule = plate(mvtec_root)
    runner.fit(build(name, max_updates=5), datamodule=datamodule)
    paths = sorted(path.name for path in tmp_path.glob("*.ckpt"))
    assert paths == ["own.ckpt", "step=2.ckpt", "step=4.ckpt"]
    for path in paths:
        model = type(build(name)).load_from_checkpoint(tmp_path / path, map_location="cpu")
        clean = torch.stack([model.pre_processor.transform(item.image) for item in datamodule.train_data])
        found = scores(model.model, some_images())
        model.fit_statistics([clean])
        torch.testing.assert_close(found, scores(model.model, some_images()), **OF_FEW)


@pytest.mark.slow
def test_a_broken_off_run_says_so_and_goes_on(name, mvtec_root, tmp_path):
    def stop(*_):
        message = "power cut"
        raise RuntimeError(message)

    runner = engine(tmp_path, callbacks=[OnExceptionCheckpoint(tmp_path, "broken"), At(3, stop)])
    with pytest.raises(RuntimeError, match="power cut"):
        runner.fit(build(name), datamodule=plate(mvtec_root))
    model = type(build(name)).load_from_checkpoint(tmp_path / "broken.ckpt", map_location="cpu")
    with pytest.raises(NotFittedError, match="--ckpt_path"):
        scores(model.model, some_images())
    model, runner = build(name), engine(tmp_path)
    runner.fit(model, datamodule=plate(mvtec_root), ckpt_path=tmp_path / "broken.ckpt")
    assert runner.trainer.global_step == 4
    assert scores(model.model, some_images()).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("in_memory", [True, False])
def test_resumed_equals_uninterrupted(name, in_memory, mvtec_root, tmp_path):
    arguments = {"max_updates": 7, "in_memory": in_memory}
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    whole = build(name, **arguments)
    engine(tmp_path / "whole", callbacks=[every]).fit(whole, datamodule=plate(mvtec_root, train_batch_size=2))
    # Three batches an epoch: from the end of one, and from within.
    for step in (3, 4):
        torch.manual_seed(step)
        resumed, path = build(name, **arguments), tmp_path / f"step={step}.ckpt"
        runner = engine(tmp_path / str(step))
        runner.fit(resumed, datamodule=plate(mvtec_root, train_batch_size=2), ckpt_path=path)
        weights = resumed.model.state_dict()
        assert [key for key, value in whole.model.state_dict().items() if not torch.equal(value, weights[key])] == []


def test_not_a_number_is_an_error(name, trained, mvtec_root, tmp_path):
    def spoil(module):
        for parameter in module.model.parameters():
            parameter.data.fill_(torch.nan)

    runner = engine(tmp_path, callbacks=[At(3, lambda _, module: spoil(module))])
    with pytest.raises(ValueError, match="diverged"):
        runner.fit(build(name), datamodule=plate(mvtec_root))
    model = copy.deepcopy(trained[0])
    spoil(model)
    for action in ("validate", "test", "predict"):
        with pytest.raises(ValueError, match="not finite"):
            getattr(engine(tmp_path), action)(model, datamodule=plate(mvtec_root))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
def test_precisions_that_do_not_work_are_refused(name, precision, mvtec_root, tmp_path):
    with pytest.raises(ValueError, match=f"precision must be .* got {precision}"):
        engine(tmp_path, precision=precision).fit(build(name), datamodule=plate(mvtec_root))


@pytest.mark.slow
def test_mixed_precision_keeps_scores_in_float32(name, mvtec_root, tmp_path):
    model, runner = build(name), engine(tmp_path, precision="bf16-mixed")
    runner.fit(model, datamodule=plate(mvtec_root))
    predictions = runner.predict(model, datamodule=plate(mvtec_root))
    expected = scores(model.model, model.pre_processor.transform(predictions[0].image))
    assert expected.dtype == torch.float32
    assert all(value.dtype != torch.bfloat16 for value in model.state_dict().values())


EXACT = {
    *("cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "smooth_l1_loss", "cosine_similarity"),
    *("cholesky", "linalg_cholesky", "eigh", "linalg_eigh", "logsumexp", "solve_triangular", "cdist", "std", "var"),
}
"""Functions that losses, densities and distances are made of, and that no tensor of reduced precision shall enter."""


class Dtypes(TorchFunctionMode):
    """Note the data types that these functions are given."""

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if (name := getattr(function, "__name__", "")) in EXACT:
            tensors = [value for value in args if isinstance(value, torch.Tensor) and value.is_floating_point()]
            self.seen.setdefault(name, set()).update(value.dtype for value in tensors)
        return function(*args, **(kwargs or {}))


class Losses(Callback):
    """Note the data types of losses."""

    def __init__(self):
        self.dtypes = set()

    def on_train_batch_end(self, trainer, module, outputs, *args):
        self.dtypes.add(outputs["loss"].dtype)


@pytest.mark.slow
def test_losses_and_densities_are_exact_under_mixed_precision(name, mvtec_root, tmp_path):
    losses, dtypes = Losses(), Dtypes()
    with dtypes:
        engine(tmp_path, precision="bf16-mixed", callbacks=[losses]).fit(build(name), datamodule=plate(mvtec_root))
    assert set().union(*dtypes.seen.values()) <= {torch.float32, torch.float64}, dtypes.seen
    assert losses.dtypes == {torch.float32}
    # Errors of restorations are plain arithmetic, of whose kind the loss is.
    assert dtypes.seen or name in ("AutoencoderProjection", "SSM")


@pytest.mark.slow
def test_deterministic_algorithms(name, mvtec_root, tmp_path):
    try:
        runner = engine(tmp_path, deterministic=True)
        runner.fit(build(name), datamodule=plate(mvtec_root))
    finally:
        torch.use_deterministic_algorithms(False)


def test_two_grey_images_without_masks_one_a_batch(name, mvtec_root, tmp_path):
    for source in sorted(mvtec_root.glob("plate/t*/*/00[01].png")):
        target = tmp_path / "grey" / source.relative_to(mvtec_root / "plate")
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).convert("L").save(target)
    folders = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/spot"}
    batches = {"train_batch_size": 1, "eval_batch_size": 1, "num_workers": 0}
    datamodule = Folder("grey", root=tmp_path / "grey", **folders, **batches)
    model, runner = build(name), engine(tmp_path / "run")
    runner.fit(model, datamodule=datamodule)
    (results,) = runner.test(model, datamodule=datamodule)
    assert "image_AUROC" in results


@pytest.mark.slow
def test_images_that_are_not_square(name, mvtec_root, tmp_path):
    model = build(name, image_size=[64, 96])
    engine(tmp_path).fit(model, datamodule=plate(mvtec_root))
    batch = model.eval()(some_images(2, 80, 80))
    assert batch.anomaly_map.shape[-2:] == (64, 96)


@pytest.mark.slow
def test_exports_score_alike(name, trained, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model = copy.deepcopy(trained[0]).eval()
    # Raw scores: the post-processor would cut them off.
    model.post_processor = None
    path = model.to_onnx(tmp_path, input_size=(80, 80))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    graph = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    loaded = torch.load(model.to_torch(tmp_path), weights_only=False)["model"].eval()
    for count in (1, 3):
        images = some_images(count, 80, 80)
        with torch.no_grad():
            expected, restored = model(images), loaded(images)._asdict()
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for found in (from_onnx, graph(images.numpy()), restored):
            for key in ("pred_score", "anomaly_map"):
                value = getattr(expected, key)
                difference = torch.as_tensor(found[key]) - value
                assert difference.shape == value.shape
                # Scores are in standard deviations, and a single one may happen to be near 0.
                assert difference.abs().max() <= 1e-3 * value.abs().max().clamp(min=1)


@pytest.mark.slow
def test_a_network_in_eight_bits_scores_alike(name, trained, mvtec_root, tmp_path):
    openvino, _ = pytest.importorskip("openvino"), pytest.importorskip("nncf")
    model = copy.deepcopy(trained[0]).eval()
    model.post_processor = None
    images = torch.cat([batch.image for batch in batches_under_test(mvtec_root)])
    with torch.no_grad():
        expected = model(images)
    path = model.to_openvino(tmp_path, compression_type=CompressionType.INT8_PTQ, datamodule=plate(mvtec_root))
    graph = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = graph(images.numpy())
    assert any(node.get_type_name() == "FakeQuantize" for node in openvino.Core().read_model(path).get_ops())
    for key in ("pred_score", "anomaly_map"):
        both = np.stack([found[key].ravel(), getattr(expected, key).flatten().numpy()])
        # 0.93 and more where it was tried; of scores that are all alike it is not a number.
        assert np.corrcoef(both)[0, 1] > 0.7


@pytest.mark.slow
def test_exports_without_map(name, trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = copy.deepcopy(trained[0]).eval()
    model.exports_map = False
    session = onnxruntime.InferenceSession(model.to_onnx(tmp_path, input_size=(80, 80)))
    assert "anomaly_map" not in {output.name for output in session.get_outputs()}
    assert model(some_images()).anomaly_map is not None


PARALLEL = """
import sys, torch
from pathlib import Path
from lightning.pytorch import Callback, Trainer
from test_contract import build, plate

class Keep(Callback):
    def teardown(self, trainer, module, stage):
        torch.save(module.model.state_dict(), f"{trainer.global_rank}.pt")

if __name__ == "__main__":
    # Forked, since starting a second Python takes longer than the whole run.
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=[Keep()],
    )
    arguments = {"CutPaste": {"freeze_updates": 2}, "STSSAD": {"unlabeled_source": "test"}}.get(sys.argv[1], {})
    model = build(sys.argv[1], **arguments)
    trainer.fit(model, datamodule=plate(sys.argv[2], train_batch_size=2))
    # This process has not trained: what it knows came back with the weights.
    assert getattr(model, "transductive", True)
    assert getattr(model, "traits", True) is not None
"""


@pytest.mark.slow
def test_two_processes_agree(name, mvtec_root, tmp_path):
    (tmp_path / "parallel.py").write_text(PARALLEL)
    command = [sys.executable, "parallel.py", name, str(mvtec_root)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(value, ranks[1][key]) for key, value in ranks[0].items())
    # One process finds the same statistics of the same weights.
    model, datamodule = build(name), plate(mvtec_root)
    model.model.load_state_dict(ranks[0])
    expected = scores(model.model, some_images())
    datamodule.setup()
    images = torch.stack([model.pre_processor.transform(item.image) for item in datamodule.train_data])
    model.fit_statistics(images.split(4))
    torch.testing.assert_close(scores(model.model, some_images()), expected, **OF_FEW)


def stripes(count, defect, generator):
    """Stripes of random phase, in some of them a rectangle that is shifted by some pixels, or flat and grey for 0."""
    phase = 2 * torch.pi * torch.rand(count, 1, 1, 1, generator=generator)
    waves = torch.sin(2 * torch.pi * torch.arange(64) / 8 + phase).expand(-1, 1, 64, -1)
    images = 0.5 + 0.3 * waves * torch.tensor([1, 0.8, 0.6]).view(3, 1, 1)
    for image in images:
        height, width = torch.randint(12, 20, (2,), generator=generator).tolist()
        top, left = (int(torch.randint(2, 62 - side, (), generator=generator)) for side in (height, width))
        place = (slice(None), slice(top, top + height), slice(left, left + width))
        if defect is not None:
            image[place] = image.roll(defect, dims=2)[place] if defect else image.mean()
    return (images + 0.03 * torch.randn(images.shape, generator=generator)).clamp(0, 1)


def save_stripes(root, defect):
    generator = torch.Generator().manual_seed(0)
    for folder, count, kind in (("train/good", 24, None), ("test/good", 30, None), ("test/defect", 30, defect)):
        (root / folder).mkdir(parents=True)
        for index, image in enumerate(stripes(count, kind, generator)):
            pixels = image.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(root / folder / f"{index:03d}.png")


def striped(root, defect):
    """A datamodule of them."""
    save_stripes(root, defect)
    folders = {"normal_dir": "train/good", "normal_test_dir": "test/good", "abnormal_dir": "test/defect"}
    batches = {"train_batch_size": 12, "eval_batch_size": 12, "num_workers": 0, "val_split_mode": "same_as_test"}
    datamodule = Folder("stripes", root=root, **folders, **batches)
    datamodule.setup()
    return datamodule


@pytest.mark.slow
def test_training_finds_what_an_untrained_network_does_not(name, tmp_path):
    defect, updates, arguments = LEARNED[name]
    datamodule = striped(tmp_path / "stripes", defect)
    model = build(name, max_updates=updates, **arguments)
    found, clean = [], torch.stack([item.image for item in datamodule.train_data])
    model.fit_statistics(clean.split(12))
    for runner in (None, engine(tmp_path / "run", limit_val_batches=0)):
        if runner is not None:
            runner.fit(model, datamodule=datamodule)
        area, model = BinaryAUROC(), model.eval()
        for batch in datamodule.test_dataloader():
            with torch.no_grad():
                # Between 0 and 1, where torchmetrics takes scores as they are; ranks stay.
                scored = model.model(batch.image).pred_score.double()
            area.update(scored / (1 + scored.abs()) / 2 + 0.5, batch.gt_label)
        found.append(float(area.compute()))
    assert found[0] + 0.1 <= found[1]
    assert found[1] >= 0.8
