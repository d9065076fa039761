# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD trained by anomalib's engine: phases, budget, resuming, what is recorded, bad input."""

import csv
import logging

import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_ssl import STSSAD
from anomalib_ssl.training.progress import UpdateProgressBar

SMALL = {
    "backbone": "test_resnet",
    "image_size": 32,
    "num_starts": 2,
    "outer_batch_size": 4,
    "head_dims": (8, 4),
    "tuning_share": 0.8,
    "visualizer": False,
}


def data(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0, **kwargs)


def make_engine(path, *callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=path, callbacks=list(callbacks), **{**quiet, **kwargs})


class Recorder(Callback):
    """Note what each update changes, and how many optimiser steps it counts as."""

    def __init__(self, stop_at=None):
        self.changes, self.rates, self.stop_at = [], [], stop_at

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.before = [pl_module.model.detector.head[0].weight.clone(), pl_module.augmentation.raw.detach().clone()]

    def on_train_batch_end(self, trainer, pl_module, *args):
        after = [pl_module.model.detector.head[0].weight, pl_module.augmentation.raw]
        self.changes.append(tuple(not torch.equal(*pair) for pair in zip(self.before, after, strict=True)))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])
        assert trainer.global_step == len(self.changes) or self.stop_at is None
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True


def test_phases_of_a_run(tmp_path, mvtec_root, caplog):
    recorder = Recorder()
    model = STSSAD("test", max_updates=20, seed=0, lr=0.05, **SMALL)
    engine = make_engine(tmp_path, recorder)
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 20
    phases = model.schedule.phases
    names = ["warm start", "search"] * 2 + ["tuning", "training"]
    assert [phase.name for phase in phases] == names
    assert [phase.stop for phase in phases] == [2, 4, 6, 8, 16, 20]
    # Every update trains the detector; parameters change where they are tuned, and where a phase puts others in place.
    assert all(detector for detector, _ in recorder.changes)
    tuned = [parameters for _, parameters in recorder.changes]
    assert [update for update in range(20) if tuned[update]] == [0, 2, 3, 4, *range(6, 16), 16]
    # The last training has a cosine of its own, which begins at the full rate.
    assert recorder.rates[16] == pytest.approx(0.05)
    assert recorder.rates[19] < 0.01
    assert "TRANSDUCTIVE" in caplog.text
    assert "Start 1 ends at area" in caplog.text
    assert "is gone on with" in caplog.text
    assert metrics["transductive"] == 1
    assert {"image_AUROC", "pixel_AUROC"} < set(metrics)
    assert not torch.equal(model.tuner.tuned, model.augmentation.starts(2)[0])
    torch.testing.assert_close(model.augmentation.raw.detach(), model.tuner.tuned)
    folder = tmp_path / "STSSAD/MVTecAD/plate/latest"
    rows = list(csv.DictReader((folder / "tuning.csv").open()))
    assert [row["update"] for row in rows] == [str(update) for update in range(16)]
    assert [row["candidate"] for row in rows] == ["0"] * 4 + ["1"] * 4 + ["best"] * 8
    assert [bool(row["validation_loss"]) for row in rows] == ([False] * 2 + [True] * 2) * 2 + [True] * 8
    assert (folder / "tuning.png").is_file()


def test_interrupted_runs_go_on_as_if_nothing_had_happened(tmp_path, mvtec_root):
    def fresh():
        return STSSAD("test", max_updates=20, seed=0, **SMALL)

    whole = fresh()
    make_engine(tmp_path / "whole", limit_val_batches=0).fit(whole, datamodule=data(mvtec_root))
    for broken in (3, 12, 18):  # within a start, the tuning and the last training
        engine = make_engine(tmp_path / f"first{broken}", Recorder(broken), limit_val_batches=0)
        engine.fit(fresh(), datamodule=data(mvtec_root))
        assert engine.trainer.global_step == broken
        path = tmp_path / f"{broken}.ckpt"
        engine.trainer.save_checkpoint(path)
        # Plain data only, or anomalib could not load it.
        saved = torch.load(path, weights_only=True)
        assert saved["hyper_parameters"]["unlabeled_source"] == "test"
        resumed = STSSAD("test", max_updates=20, seed=1, **SMALL)
        make_engine(tmp_path / f"second{broken}", limit_val_batches=0).fit(
            resumed, datamodule=data(mvtec_root), ckpt_path=path
        )
        assert resumed.trainer.global_step == 20
        assert torch.equal(resumed.trajectory.table().nan_to_num(), whole.trajectory.table().nan_to_num())
        torch.testing.assert_close(resumed.tuner.tuned, whole.tuner.tuned)
        for name, value in resumed.model.detector.state_dict().items():
            torch.testing.assert_close(value, whole.model.detector.state_dict()[name])


def test_checkpoint_gives_the_same_scores_and_says_that_it_is_transductive(tmp_path, mvtec_root):
    engine = make_engine(tmp_path)
    model = STSSAD("test", max_updates=8, **SMALL)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = STSSAD.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    assert loaded.transductive
    assert loaded.tuned_parameters == model.tuned_parameters
    images = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(images).pred_score, model.eval()(images).pred_score)
    # Tested by a model that was never told of unlabelled images.
    (metrics,) = make_engine(tmp_path / "test").test(
        STSSAD(**SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path
    )
    assert metrics["transductive"] == 1


def test_inductive_run_says_so(tmp_path, mvtec_root):
    model = STSSAD("val", augmentation="rotation", second_order=False, val_loss="sinkhorn", max_updates=8, **SMALL)
    datamodule = data(mvtec_root, val_split_mode="from_test", val_split_ratio=0.5)
    (metrics,) = make_engine(tmp_path, precision="bf16-mixed").train(model=model, datamodule=datamodule)
    assert metrics["transductive"] == 0
    assert set(model.tuned_parameters) == {"angle"}
    assert -180 < model.tuned_parameters["angle"] < 180


@pytest.mark.parametrize("updates", [1, 3])
def test_smallest_budgets_and_the_trainers_limits(tmp_path, mvtec_root, updates):
    model = STSSAD("test", max_updates=5000, **SMALL)
    engine = make_engine(tmp_path, limit_val_batches=0, max_steps=updates)
    engine.fit(model, datamodule=data(mvtec_root))
    assert engine.trainer.global_step == updates
    assert model.schedule.phases[-1].stop == updates
    assert model.tuner.tuned is not None


class Crash(Callback):
    """Break off."""

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == 5:
            msg = "out of electricity"
            raise RuntimeError(msg)


def test_a_crash_loses_nothing_of_the_trajectory(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, Crash())
    with pytest.raises(RuntimeError, match="electricity"):
        engine.fit(STSSAD("test", max_updates=20, **SMALL), datamodule=data(mvtec_root))
    (path,) = (tmp_path / "STSSAD").rglob("v0/tuning.csv")
    assert len(path.read_text().splitlines()) == 1 + 5


def test_too_weak_an_augmentation_is_reported(tmp_path, mvtec_root, caplog):
    model = STSSAD("test", max_updates=5, area=(1e-6, 2e-6), **SMALL)
    with caplog.at_level(logging.WARNING, logger="anomalib_ssl"):
        make_engine(tmp_path, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    assert "too weak to learn from" in caplog.text


class Notes(Callback):
    """What the progress bar would show after each update."""

    def __init__(self):
        self.shown = []

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.shown.append(UpdateProgressBar().get_metrics(trainer, pl_module))


def test_progress_shows_phase_and_parameters(tmp_path, mvtec_root):
    notes = Notes()
    model = STSSAD("test", max_updates=20, second_order=False, **SMALL)
    make_engine(tmp_path, notes, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    phases = [metrics["phase"] for metrics in notes.shown]
    assert phases[:9:4] == ["warm-start-1/2", "warm-start-2/2", "tuning"]
    assert phases[6] == "search-2/2"
    assert phases[-1] == "training"
    assert {"area", "aspect", "angle", "train_loss"} <= set(notes.shown[-1])


def test_get_model_by_name():
    for name in ("stssad", "st_ssad", "STSSAD"):
        assert type(get_model(name, unlabeled_source="test", **SMALL)) is STSSAD
    init_args = {**SMALL, "unlabeled_source": "val", "area": [0.01, 0.1], "image_size": [32, 48], "head_dims": [8]}
    model = get_model({"class_path": "STSSAD", "init_args": init_args})
    assert model.augmentation.bounds["area"][:2] == (0.01, 0.1)


def test_missing_source_is_an_error_before_training(tmp_path, mvtec_root, monkeypatch):
    message = "unlabeled_source must be given: 'val' or 'test' .* or the path of a folder"
    with pytest.raises(ValueError, match=message):
        make_engine(tmp_path).fit(get_model("stssad", **SMALL), datamodule=data(mvtec_root))
    monkeypatch.chdir(tmp_path)
    flags = ["--model", "STSSAD", "--model.backbone", "test_resnet", "--model.image_size", "32"]
    paths = ["--data", "MVTecAD", "--data.root", str(mvtec_root), "--data.category", "plate", "--data.num_workers", "0"]
    with pytest.raises(ValueError, match=message):
        AnomalibCLI(args=["train", *flags, *paths, "--trainer.accelerator=cpu"])


def test_command_line(tmp_path, mvtec_root, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    model = ["--model", "STSSAD", "--model.unlabeled_source", "test", "--model.image_size", 32]
    model += ["--model.backbone", "test_resnet", "--model.max_updates", 4, "--model.area", "[0.01,0.2]"]
    paths = ["--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--data.num_workers", 0]
    AnomalibCLI(args=[str(part) for part in ("train", *model, *paths, "--trainer.accelerator=cpu")])
    out = capfd.readouterr().out
    assert "image_AUROC" in out
    assert "transductive" in out
    folder = tmp_path / "results/STSSAD/MVTecAD/plate/latest"
    saved = torch.load(folder / "weights/lightning/model.ckpt", weights_only=True)
    assert saved["anomalib_ssl_st_ssad"]["transductive"] is True
    assert saved["hyper_parameters"]["unlabeled_source"] == "test"
    assert (folder / "tuning.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"augmentation": "mixup"}, "augmentation"),
        ({"max_updates": 0}, "max_updates"),
        ({"image_size": 0}, "image_size"),
        ({"area": (0.2, 0.1)}, "area"),
        ({"num_starts": 0}, "num_starts"),
        ({"tuning_share": 1.5}, "tuning_share"),
        ({"search_share": -0.1}, "search_share"),
        ({"warmup_share": 2.0}, "warmup_share"),
        ({"selection": "AUROC"}, "selection"),
        ({"val_loss": "mmd"}, "val_loss"),
        ({"tuning_lr": 0.0}, "tuning_lr"),
        ({"inner_lr": -1.0}, "inner_lr"),
        ({"lr": 0.0}, "lr"),
        ({"outer_batch_size": 1}, "outer_batch_size"),
        ({"augmented_ratio": 0.0}, "augmented_ratio"),
        ({"momentum": 2.0}, "momentum"),
        ({"base_jitter": 0.9}, "base_jitter"),
        ({"score": "softmax"}, "score"),
        ({"gde_shrinkage": "none"}, "gde_shrinkage"),
        ({"backbone": "resnet19"}, "backbone"),
        ({"pre_processor": PreProcessor(Compose([Resize((32, 32)), Normalize([0.5] * 3, [0.5] * 3)]))}, "Normalize"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        STSSAD("test", **{**SMALL, **arguments})
