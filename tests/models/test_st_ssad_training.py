# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD trained by anomalib's engine: phases, images to tune with, budget, resuming, what is recorded, bad input."""

import csv
import logging
import math

import pytest
import torch
from anomalib.data import Folder, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_ssl import STSSAD, CutPaste
from anomalib_ssl.training.progress import UpdateProgressBar

SMALL = {
    "backbone": "test_resnet",
    "image_size": 32,
    "num_starts": 2,
    "outer_batch_size": 4,
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
    phases = model.tuning.schedule.phases
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
    assert not torch.equal(model.tuning.tuner.tuned, model.augmentation.starts(2)[0])
    torch.testing.assert_close(model.augmentation.raw.detach(), model.tuning.tuner.tuned)
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
        resumed = STSSAD("test", max_updates=20, seed=1, **SMALL)
        make_engine(tmp_path / f"second{broken}", limit_val_batches=0).fit(
            resumed, datamodule=data(mvtec_root), ckpt_path=path
        )
        assert resumed.trainer.global_step == 20
        whole_table, table = whole.tuning.trajectory.table(), resumed.tuning.trajectory.table()
        assert torch.equal(table.nan_to_num(), whole_table.nan_to_num())
        assert torch.equal(resumed.tuning.tuner.tuned, whole.tuning.tuner.tuned)
        for name, value in resumed.model.detector.state_dict().items():
            assert torch.equal(value, whole.model.detector.state_dict()[name])


def test_by_default_the_validation_images_are_tuned_with(tmp_path, mvtec_root, caplog):
    model = STSSAD(max_updates=8, **SMALL)
    engine = make_engine(tmp_path)
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        # anomalib's default: they are the test images.
        engine.fit(model, datamodule=data(mvtec_root))
    assert caplog.text.count("The augmentation is tuned with 8 images of the datamodule's val split") == 1
    assert "TRANSDUCTIVE" in caplog.text
    loaded = STSSAD.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    assert loaded.transductive
    assert loaded.tuned_parameters == model.tuned_parameters
    # Tested by a model that has not been trained itself.
    (metrics,) = make_engine(tmp_path / "test").test(
        STSSAD(**SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path
    )
    assert metrics["transductive"] == 1


def test_inductive_run_says_so(tmp_path, mvtec_root):
    model = STSSAD(augmentation="rotation", second_order=False, val_loss="sinkhorn", max_updates=8, **SMALL)
    datamodule = data(mvtec_root, val_split_mode="from_test", val_split_ratio=0.5)
    (metrics,) = make_engine(tmp_path, precision="bf16-mixed").train(model=model, datamodule=datamodule)
    assert metrics["transductive"] == 0
    assert set(model.tuned_parameters) == {"angle"}
    assert -180 < model.tuned_parameters["angle"] < 180
    assert model.tuning.tuner.tuned.abs() > 0


@pytest.mark.parametrize("mode", ["none", "from_train", "synthetic"])
def test_without_images_to_tune_with_nothing_is_tuned(tmp_path, mvtec_root, caplog, mode):
    model = STSSAD(max_updates=4, **SMALL)
    # Without validation images there is no validation, by anomalib's own rule.
    engine = make_engine(tmp_path, limit_val_batches=0 if mode == "none" else None)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root, val_split_mode=mode))
    assert metrics["transductive"] == 0
    assert [phase.name for phase in model.tuning.schedule.phases] == ["training"]
    assert model.tuning.tuner.tuned.tolist() == [0, 0, 0]
    assert caplog.text.count("The augmentation is not tuned") == 1
    assert "It must be 'val' or 'test'" in caplog.text
    # A source that was given is meant.
    with pytest.raises(ValueError, match="unlabeled_source='val' cannot be used"):
        make_engine(tmp_path).fit(STSSAD("val", **SMALL), datamodule=data(mvtec_root, val_split_mode=mode))


def test_two_training_images_are_enough(tmp_path, mvtec_root):
    plate = mvtec_root / "plate"
    (tmp_path / "two").mkdir()
    for number in range(2):
        (tmp_path / f"two/{number}.png").symlink_to(plate / f"train/good/00{number}.png")
    folders = {
        "normal_dir": tmp_path / "two",
        "normal_test_dir": plate / "test/good",
        "abnormal_dir": plate / "test/spot",
    }
    datamodule = Folder("two", **folders, train_batch_size=1, num_workers=0)
    model = STSSAD(max_updates=20, **SMALL)
    make_engine(tmp_path / "run").fit(model, datamodule=datamodule)
    # Both starts were followed, and one was chosen: by the loss.
    judgements = model.tuning.tuner.judgements
    assert set(judgements) == {0, 1}
    assert all(math.isnan(judgement.spread) and math.isfinite(judgement.loss) for judgement in judgements.values())


@pytest.mark.parametrize("updates", [1, 3])
def test_smallest_budgets_and_the_trainers_limits(tmp_path, mvtec_root, updates):
    model = STSSAD("test", max_updates=5000, **SMALL)
    engine = make_engine(tmp_path, limit_val_batches=0, max_steps=updates)
    engine.fit(model, datamodule=data(mvtec_root))
    assert engine.trainer.global_step == updates
    assert model.tuning.schedule.phases[-1].stop == updates
    assert model.tuning.tuner.tuned is not None


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


def test_a_folder_is_saved_as_plain_data(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.fit(STSSAD(mvtec_root / "plate/test", max_updates=1, **SMALL), datamodule=data(mvtec_root))
    engine.trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["unlabeled_source"] == str(mvtec_root / "plate/test")


def test_checkpoint_of_another_model_is_refused(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, limit_val_batches=0)
    small = {"backbone": "test_resnet", "image_size": 32, "visualizer": False}
    engine.fit(CutPaste(variant="normal", max_updates=1, **small), datamodule=data(mvtec_root))
    engine.trainer.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="none of STSSAD: it lacks 'anomalib_ssl_st_ssad'"):
        make_engine(tmp_path / "again").fit(
            STSSAD(**SMALL), datamodule=data(mvtec_root), ckpt_path=tmp_path / "other.ckpt"
        )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"unlabeled_source": 5}, "unlabeled_source"),
        ({"augmentation": "mixup"}, "augmentation"),
        ({"pre_trained": "yes"}, "pre_trained"),
        ({"area": (0.2, 0.1)}, "area"),
        ({"area": 0.2}, "area"),
        ({"angle": (10.0,)}, "angle"),
        ({"parameters": {"size": 0.1}}, "size"),
        ({"num_starts": 0}, "num_starts"),
        ({"num_starts": 2.5}, "num_starts"),
        ({"tuning_share": 1.5}, "tuning_share"),
        ({"selection": "AUROC"}, "selection"),
        ({"val_loss": "mmd"}, "val_loss"),
        ({"second_order": 1}, "second_order"),
        ({"tuning_lr": 0.0}, "tuning_lr"),
        ({"inner_lr": -1.0}, "inner_lr"),
        ({"outer_batch_size": 1}, "outer_batch_size"),
        ({"gde_shrinkage": "none"}, "shrinkage"),
        ({"backbone": "resnet19"}, "backbone"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises((TypeError, ValueError), match=named):
        STSSAD(**{**SMALL, **arguments})
