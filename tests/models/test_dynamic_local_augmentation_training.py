# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""DynamicLocalAugmentation trained by anomalib's engine and command line: losses, files, small sets, bad input."""

from functools import partial

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_ssl import DynamicLocalAugmentation
from anomalib_ssl.scoring import NotFittedError
from anomalib_ssl.training import held_out

SMALL = {
    "backbone": "test_resnet",
    "image_size": 32,
    "proj_dim": 16,
    "dense_dim": 8,
    "mc_samples": 2,
    "visualizer": False,
}


def data(root, batch=3, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=batch, eval_batch_size=4, num_workers=0, **kwargs)


def make_engine(path, *callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=path, callbacks=list(callbacks), **quiet, **kwargs)


class Recorder(Callback):
    """Note rates and logged values of every update, and what validations log."""

    def __init__(self, stop_at=None):
        self.rates, self.logged, self.validated, self.stop_at = [], [], [], stop_at

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, *args):
        values = trainer.callback_metrics.items()
        self.logged.append({name: float(value) for name, value in values if name.startswith("train_")})
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True

    def on_validation_end(self, trainer, *args):
        values = trainer.callback_metrics.items()
        self.validated.append({name: float(value) for name, value in values if not name.startswith("train_")})


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def few_are_enough(monkeypatch):
    """Hold images out of the tiny data set too."""
    monkeypatch.setattr(held_out, "LEAST_IMAGES", 6)


def test_train_test_and_predict(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(**SMALL, max_updates=4, seed=0)
    engine = make_engine(tmp_path)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert predictions[0].anomaly_map.shape[-2:] == (32, 32)
    assert predictions[0].pred_label is not None


def test_losses_rates_and_spread_are_logged(tmp_path, mvtec_root):
    recorder = Recorder()
    model = DynamicLocalAugmentation(**SMALL, max_updates=6, base_lr=0.5, seed=0)
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    progress = np.arange(6) / 6
    np.testing.assert_allclose(recorder.rates, 0.5 * 3 / 256 * 0.5 * (1 + np.cos(np.pi * progress)), rtol=1e-6)
    names = ("loss", "global_loss", "dense_loss", "negative_loss", "projection_spread")
    for values in recorder.logged:
        assert set(values) == {f"train_{name}" for name in names}
        parts = [values[f"train_{name}_loss"] for name in ("global", "dense", "negative")]
        assert values["train_loss"] == pytest.approx(np.dot(parts, [1, 0.1, 0.5]), abs=1e-5)
        assert 0.2 < values["train_projection_spread"] < 1.3


def test_branches_that_do_not_count_are_left_out(tmp_path, mvtec_root):
    recorder = Recorder()
    model = DynamicLocalAugmentation(**SMALL, max_updates=2, dense_weight=0.0, negative_weight=0.0)
    assert model.training_views(rand_images(2, 3, 32, 32)).negatives is None
    assert not any("dense_head" in name or "negative_head" in name for name in model.state_dict())
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    assert set(recorder.logged[-1]) == {"train_loss", "train_global_loss", "train_projection_spread"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"dense_match": "geometric"},
        {"combine": "sample", "weighting": "static", "global_views": "simsiam"},
    ],
)
def test_training_learns_to_tell_augmented_images(arguments):
    torch.manual_seed(0)
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 48}, **arguments, seed=0)
    rows = torch.arange(48.0).view(1, 1, -1, 1)
    images = (0.5 + 0.3 * torch.sin(rows / 3 + torch.arange(8.0).view(-1, 1, 1, 1))).expand(-1, 3, -1, 48).contiguous()
    optimizer = torch.optim.SGD(model.model.parameters(), lr=0.1, momentum=0.9)
    values = []
    for _ in range(40):
        views = model.training_views(images)
        stacked = torch.cat([views.first.images, views.second.images, views.negatives])
        terms = model.compare(model.model(stacked, 16), views)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        values.append(terms.negative.item())
    # Fresh heads do not know which is which.
    assert abs(np.mean(values[:3])) < 0.2
    assert np.mean(values[-5:]) < -0.25


def test_a_negative_of_each_operation_weighs_their_losses():
    model = DynamicLocalAugmentation(**SMALL, combine="loss", share_negative_head=True, seed=0)
    views = model.training_views(rand_images(4, 3, 32, 32))
    stacked = torch.cat([views.first.images, views.second.images, views.negatives])
    terms = model.compare(model.model(stacked, 8), views)
    terms.total.backward()
    assert terms.negative.abs() < 1
    assert model.model.negative_head is None
    assert all(value.grad is not None for value in model.model.parameters())


def test_views_and_negatives_of_training():
    images = rand_images(6, 3, 64, 64)
    images[2] = 0
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 64}, region=(64, 64))
    views = model.training_views(images, torch.Generator().manual_seed(0))
    changed = (views.negatives != views.first.images).any(dim=1)
    assert views.weights.flatten().tolist() == [1, 1, 0, 1, 1, 1]
    assert changed.flatten(1).any(dim=1).tolist() == [True, True, False, True, True, True]
    # Sixteen pixels of an image of 64 are sixteen pixels of a crop of it.
    for mask in changed[[0, 1, 3, 4, 5]]:
        rows, cols = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        assert 14 <= int(rows[-1] - rows[0]) + 1 <= 16
        assert 14 <= int(cols[-1] - cols[0]) + 1 <= 16
    again = model.training_views(images, torch.Generator().manual_seed(0))
    assert torch.equal(again.negatives, views.negatives)
    each = DynamicLocalAugmentation(**SMALL | {"image_size": 64}, combine="loss").training_views(images)
    assert each.negatives.shape == (24, 3, 56, 56)
    assert each.weights.shape == (6, 4)


@pytest.mark.usefixtures("few_are_enough")
def test_held_out_images_are_measured_after_statistics_and_choose_alphas(tmp_path, mvtec_root, monkeypatch):
    recorder = Recorder()
    seen = []
    model = DynamicLocalAugmentation(**SMALL, max_updates=6, select_alphas=True, held_out_share=0.2, seed=0)
    fit = model.fit_statistics
    monkeypatch.setattr(model, "fit_statistics", lambda images: seen.append(sum(map(len, images))) or fit(images))
    engine = make_engine(tmp_path, recorder, val_check_interval=3, check_val_every_n_epoch=None)
    engine.fit(model, datamodule=data(mvtec_root))
    assert seen == [5, 5]
    assert len(recorder.validated) == 2
    for values in recorder.validated:
        for name in ("", "distance_", "uncertainty_"):
            assert 0 <= values[f"held_out_{name}pixel_AUROC"] <= 1
        assert values["held_out_pixel_AUROC"] >= values["held_out_distance_pixel_AUROC"] - 1e-6
        assert 0 <= values["held_out_uncertainty_share"] < 1
        assert values["normal_distance_layer1"] > 0
        assert values["normal_uncertainty_layer3"] > 0
    assert float(model.model.alphas[1]) == pytest.approx(recorder.validated[-1]["uncertainty_alpha"])
    loaded = DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path)
    assert torch.equal(loaded.model.alphas, model.model.alphas)
    # Measured by hand: what was logged, with the same augmentations.
    datamodule = data(mvtec_root)
    datamodule.setup()
    indices = held_out.split_indices(6, 0.2)[1]
    images = torch.stack([datamodule.train_data[i].image for i in indices])
    by_hand = model.held_out_metrics([model.pre_processor.transform(images)])
    assert float(by_hand["held_out_pixel_AUROC"]) == pytest.approx(
        recorder.validated[-1]["held_out_pixel_AUROC"], abs=1e-4
    )


def test_nothing_is_measured_where_nothing_can_be_changed():
    model = DynamicLocalAugmentation(**SMALL)
    model.model.eval()
    model.fit_statistics([rand_images(4, 3, 32, 32)])
    assert model.held_out_metrics([torch.zeros(4, 3, 32, 32)]) == {}


def test_checkpoint_gives_the_same_scores(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(**SMALL | {"image_size": (32, 64)}, max_updates=3, mu_mode="channel", seed=0)
    with pytest.raises(NotFittedError):
        model.eval()(rand_images(1, 3, 80, 80))
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path)
    assert loaded.input_size == (32, 64)
    with torch.no_grad():
        before, after = (each.eval()(rand_images(3, 3, 80, 80)) for each in (model, loaded))
    assert torch.equal(before.pred_score, after.pred_score)
    assert torch.equal(before.anomaly_map, after.anomaly_map)


def test_other_alphas_for_a_trained_network(tmp_path, mvtec_root):
    engine = make_engine(tmp_path)
    engine.fit(DynamicLocalAugmentation(**SMALL, max_updates=2), datamodule=data(mvtec_root))
    images = rand_images(1, 3, 32, 32)
    for arguments in ({"alphas": (2.0, 5.0)}, {"alphas": (1.0, 0.0)}, {"mc_masks": "random"}):
        loaded = DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path, **arguments).eval()
        assert loaded.model.alphas.tolist() == list(arguments.get("alphas", (1.0, pytest.approx(0.1))))
        with torch.no_grad():
            _, uncertainty = loaded.model.error_maps(images)
            assert (uncertainty is None) == (arguments.get("alphas") == (1.0, 0.0))
            assert loaded.model(images).pred_score > 0
    with pytest.raises(ValueError, match="cannot be exported"):
        loaded.to_onnx(tmp_path)


def test_resuming_continues_the_schedule_and_the_split(tmp_path, mvtec_root):
    first, second = Recorder(stop_at=4), Recorder()
    engine = make_engine(tmp_path / "first", first)
    engine.fit(DynamicLocalAugmentation(**SMALL, max_updates=10, seed=0), datamodule=data(mvtec_root))
    resumed = make_engine(tmp_path / "second", second)
    again = DynamicLocalAugmentation(**SMALL, max_updates=10, seed=0)
    resumed.fit(again, datamodule=data(mvtec_root), ckpt_path=engine.best_model_path)
    assert resumed.trainer.global_step == 10
    whole = Recorder()
    make_engine(tmp_path / "whole", whole, limit_val_batches=0).fit(
        DynamicLocalAugmentation(**SMALL, max_updates=10, seed=0), datamodule=data(mvtec_root)
    )
    assert first.rates + second.rates == pytest.approx(whole.rates)


def test_seeds_give_the_same_weights_twice(tmp_path, mvtec_root):
    states = []
    for run, seed in enumerate((0, 0, 1)):
        model = DynamicLocalAugmentation(**SMALL, max_updates=3, seed=seed)
        make_engine(tmp_path / str(run)).fit(model, datamodule=data(mvtec_root))
        states.append(model.model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(*(state["global_head.predictor.3.weight"] for state in states[1:]))


def test_mixed_precision_trains_and_scores_in_full(tmp_path, mvtec_root):
    recorder = Recorder()
    model = DynamicLocalAugmentation(**SMALL, max_updates=3, mc_masks="random")
    engine = make_engine(tmp_path, recorder, precision="bf16-mixed")
    engine.fit(model, datamodule=data(mvtec_root))
    (prediction, *_) = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert prediction.pred_score.dtype == prediction.anomaly_map.dtype == torch.float32
    assert model.model.distance.mean_0.dtype == torch.float32
    assert all(np.isfinite(list(values.values())).all() for values in recorder.logged)


@pytest.mark.parametrize(("batch", "in_memory"), [(1, True), (5, False), (2, True), (200, True)])
def test_any_batch_size_trains(tmp_path, mvtec_root, batch, in_memory):
    # Five images of six in a batch of the stock loader leave one, which batch norm could not do with.
    engine = make_engine(tmp_path, limit_val_batches=0)
    model = DynamicLocalAugmentation(**SMALL, max_updates=4, in_memory=in_memory)
    engine.fit(model, datamodule=data(mvtec_root, batch))
    assert engine.trainer.global_step == 4
    assert all(value.isfinite().all() for value in model.model.state_dict().values())


def test_center_crop_of_the_default_pre_processor(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(
        **SMALL | {"image_size": 64}, center_crop=56, view_crop=1.0, view_shift=16, max_updates=2
    )
    assert model.input_size == (56, 56)
    assert model.local.sample((200, 3, 56, 56))["height"].max() == 32
    assert model.views.shift.sample((200, 3, 56, 56))["shift_y"].abs().max() == 4
    engine = make_engine(tmp_path)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert "pixel_AUROC" in metrics
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert predictions[0].anomaly_map.shape[-2:] == (56, 56)


def test_get_model_by_name_and_from_a_dictionary(tmp_path, mvtec_root):
    assert type(get_model("dynamic_local_augmentation", **SMALL)) is DynamicLocalAugmentation
    init_args = {
        **SMALL,
        "alphas": [1.0, 0.5],
        "score_layers": ["layer2", "layer3"],
        "region": [40, 60],
        "max_updates": 1,
    }
    model = get_model({"class_path": "DynamicLocalAugmentation", "init_args": init_args})
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path)
    assert loaded.model.alphas.tolist() == [1.0, 0.5]
    assert loaded.model.encoder.score_names == ["layer2", "layer3"]


def test_fast_dev_run(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, fast_dev_run=True)
    engine.fit(DynamicLocalAugmentation(**SMALL), datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 1


@pytest.mark.slow
def test_compiled_training_learns_the_same(tmp_path, mvtec_root, monkeypatch):
    # Traced and run without a compiler: what takes minutes is the same for every network.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    losses = []
    for compiled in (False, True):
        recorder = Recorder()
        model = DynamicLocalAugmentation(**SMALL, max_updates=2, compiled=compiled, seed=0)
        engine = make_engine(tmp_path / str(compiled), recorder, limit_val_batches=0)
        engine.fit(model, datamodule=data(mvtec_root))
        losses.append([values["train_loss"] for values in recorder.logged])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


@pytest.mark.gpu
def test_training_on_a_gpu(tmp_path, mvtec_root):
    arguments = {**SMALL, "max_updates": 4, "seed": 0}
    engine = Engine(default_root_dir=tmp_path, accelerator="gpu", devices=1)
    model = DynamicLocalAugmentation(**arguments)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path, map_location="cpu").eval()
    images = rand_images(3, 3, 80, 80)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(images).pred_score, model.eval().cuda()(images.cuda()).pred_score.cpu(), rtol=1e-2, atol=1e-3
        )


def test_command_line(tmp_path, mvtec_root, monkeypatch, capfd):
    """What ``anomalib`` does, in this process: only what needs a start of Python has one, for CutPaste."""
    monkeypatch.chdir(tmp_path)
    model = ["--model", "DynamicLocalAugmentation", "--model.backbone", "test_resnet", "--model.image_size", 32]
    model += ["--model.proj_dim", 16, "--model.dense_dim", 8, "--model.mc_samples", 2, "--model.alphas", "[1,0.5]"]
    flags = [*model, "--model.max_updates", 3, "--model.weighting", "static", "--model.operations", "[rotation,jitter]"]
    paths = ["--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--data.num_workers", 0]

    def run(*arguments):
        AnomalibCLI(args=[str(part) for part in arguments])
        return capfd.readouterr().out

    cpu = ["--trainer.accelerator=cpu"]
    assert "image_AUROC" in run("train", *flags, *paths, "--data.train_batch_size", 2, *cpu)
    trained = tmp_path / "results/DynamicLocalAugmentation/MVTecAD/plate/latest"
    checkpoint = (trained / "weights/lightning/model.ckpt").resolve()
    saved = torch.load(checkpoint, weights_only=True)
    assert saved["global_step"] == 3
    assert saved["hyper_parameters"]["weighting"] == "static"
    assert len(list((trained / "images").rglob("*.png"))) == 8
    assert "pixel_AUROC" in run("test", *model, *paths, "--ckpt_path", checkpoint, *cpu)
    spots = mvtec_root / "plate/test/spot"
    run(
        "predict",
        *model,
        "--data",
        spots,
        "--ckpt_path",
        checkpoint,
        "--default_root_dir",
        tmp_path / "predicted",
        *cpu,
    )
    assert len(list((tmp_path / "predicted").rglob("*.png"))) == 4
    pytest.importorskip("onnx")
    export = ["--export_type", "onnx", "--input_size", "[80,80]", "--ckpt_path", checkpoint]
    run("export", *model, *export, "--default_root_dir", tmp_path / "exported")
    assert len(list((tmp_path / "exported").rglob("model.onnx"))) == 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": 16}, "image_size"),
        ({"center_crop": 64}, "center_crop"),
        ({"max_updates": 0}, "max_updates"),
        ({"base_lr": 0.0}, "base_lr"),
        ({"momentum": 2.0}, "momentum"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"global_weight": -1.0}, "global_weight"),
        ({"global_weight": 0.0, "dense_weight": 0.0, "negative_weight": 0.0}, "must not all be 0"),
        ({"negative_margin": -2.0}, "negative_margin"),
        ({"cross_image_p": 1.5}, "cross_image_p"),
        ({"dense_match": "nearest"}, "dense_match"),
        ({"global_views": "strong"}, "global_views"),
        ({"view_crop": 0.1}, "view_crop"),
        ({"view_shift": -1}, "view_shift"),
        ({"region": (80, 50)}, "region"),
        ({"operations": ("blur",)}, "operations"),
        ({"weighting": "softmax"}, "weighting"),
        ({"combine": "mean"}, "combine"),
        ({"tries": 0}, "tries"),
        ({"mc_samples": 1}, "mc_samples"),
        ({"alphas": (1.0, 0.0, 0.0)}, "alphas"),
        ({"select_alphas": True, "held_out_share": 0.0}, "select_alphas"),
        ({"held_out_share": 0.9}, "held_out_share"),
        ({"memory_limits": (1.0,)}, "memory_limits"),
        ({"updates_per_epoch": 0}, "updates_per_epoch"),
        ({"pre_processor": PreProcessor(Compose([Resize((32, 32)), Normalize([0.5] * 3, [0.5] * 3)]))}, "Normalize"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        DynamicLocalAugmentation(**{**SMALL, **arguments})


def test_regions_that_are_too_small_are_refused_before_training(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(**SMALL, region=(4, 128), max_updates=1)
    with pytest.raises(ValueError, match="region must be at least grid"):
        make_engine(tmp_path).fit(model, datamodule=data(mvtec_root))
