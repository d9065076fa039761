# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Budget, schedule, validations and seeds of whole runs."""

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, Timer

from anomalib_ssl import CutPaste
from anomalib_ssl.training import budget

SMALL = {"backbone": "test_resnet", "image_size": 32, "visualizer": False}


class Recorder(Callback):
    """Note the learning rate of every update, and the update of every validation."""

    def __init__(self):
        self.rates, self.validations = [], []

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer, *args):
        self.validations.append(trainer.global_step)


class Ticks(Timer):
    """Each update takes a second."""

    ticks = 0

    def on_train_batch_start(self, *args):
        self.ticks += 1

    def time_elapsed(self, stage="train"):
        return self.ticks


def fit(path, root, model, kind=MVTecAD, callbacks=(), **limits):
    recorder = Recorder()
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder, *callbacks],
        **limits,
    )
    data = kind(root=root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0)
    engine.fit(model, datamodule=data)
    return recorder, engine


def cosine(total):
    steps = torch.arange(total, dtype=torch.float64)
    return (0.001 * 0.5 * (1 + torch.cos(torch.pi * steps / total))).tolist()


@pytest.mark.parametrize(
    ("max_updates", "limits", "expected"),
    [
        (5, {}, 5),
        (7, {"max_epochs": 1}, 3),
        (7, {"max_steps": 4}, 4),
        (7, {"max_steps": 0}, 0),
        (4, {"max_epochs": 10, "max_steps": 50}, 4),
        (4, {"max_epochs": -1}, 4),
        (4, {"min_epochs": 5}, 4),
        (4, {"min_steps": 4}, 4),
        (10, {"limit_train_batches": 2, "max_epochs": 2}, 4),
        (10, {"accumulate_grad_batches": 2, "max_epochs": 2}, 4),
    ],
)
def test_training_ends_at_the_first_limit_and_the_schedule_spans_it(
    tmp_path, mvtec_root, max_updates, limits, expected
):
    recorder, engine = fit(tmp_path, mvtec_root, CutPaste(max_updates=max_updates, **SMALL), **limits)
    assert engine.trainer.global_step == expected
    if "accumulate_grad_batches" not in limits:
        assert recorder.rates == pytest.approx(cosine(expected))
    # Far below the budget's sensible interval there is one validation, after the last update.
    assert recorder.validations == ([expected] if expected else [])


def test_the_last_weights_are_validated_whatever_ends_the_run(tmp_path, mvtec_root):
    model = CutPaste(max_updates=300, **SMALL)
    never_better = EarlyStopping("train_loss", patience=1, min_delta=100.0)
    recorder, engine = fit(tmp_path, mvtec_root, model, callbacks=[never_better])
    assert recorder.validations == [6]
    saved = torch.load(engine.best_model_path, weights_only=True)
    for threshold in (model.post_processor.image_threshold, saved["state_dict"]["post_processor._image_threshold"]):
        assert threshold.isfinite()


def test_the_rate_is_that_of_the_model_when_training_begins(tmp_path, mvtec_root):
    """Such as a tuner sets it."""
    model = CutPaste(max_updates=2, **SMALL)
    model.lr = 0.02
    recorder, _ = fit(tmp_path, mvtec_root, model)
    assert recorder.rates[0] == pytest.approx(0.02)


def test_the_schedule_ends_with_the_time(tmp_path, mvtec_root):
    recorder, engine = fit(tmp_path, mvtec_root, CutPaste(max_updates=1000, **SMALL), callbacks=[Ticks({"seconds": 6})])
    assert engine.trainer.global_step == 6
    assert recorder.rates == pytest.approx(cosine(6), rel=1e-6)
    assert recorder.validations == [6]


def test_validations_are_spread_over_the_budget(tmp_path, mvtec_root, monkeypatch):
    monkeypatch.setattr(budget, "LEAST_INTERVAL", 1)
    recorder, _ = fit(tmp_path, mvtec_root, CutPaste(max_updates=11, **SMALL))
    assert recorder.validations == [3, 6, 9, 11]
    # Three batches are two updates, for the last one of an epoch waits for no other.
    model = CutPaste(max_updates=11, **SMALL)
    recorder, _ = fit(tmp_path, mvtec_root, model, accumulate_grad_batches=2)
    assert recorder.validations == [2, 5, 8, 10, 11]


def test_validation_settings_of_the_user_are_obeyed(tmp_path, mvtec_root):
    recorder, _ = fit(tmp_path, mvtec_root, CutPaste(max_updates=14, **SMALL), check_val_every_n_epoch=2)
    assert recorder.validations == [6, 12, 14]


def test_fast_dev_run(tmp_path, mvtec_root):
    _, engine = fit(tmp_path, mvtec_root, CutPaste(max_updates=4, **SMALL), fast_dev_run=True)
    assert engine.trainer.global_step == 1


def test_trainer_arguments_hold_no_limit():
    assert not {"max_epochs", "max_steps", "max_time"} & set(CutPaste(**SMALL).trainer_arguments)


def test_seeds_give_the_same_weights_twice(tmp_path, mvtec_root):
    states = []
    for run, seed in enumerate((0, 0, 1)):
        model = CutPaste(max_updates=3, seed=seed, **SMALL)
        fit(tmp_path / str(run), mvtec_root, model)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["model.scorer.density.mean"], states[2]["model.scorer.density.mean"])


def test_without_a_seed_the_global_one_decides(tmp_path, mvtec_root):
    means = []
    for run in range(2):
        seed_everything(5)
        model = CutPaste(max_updates=3, **SMALL)
        fit(tmp_path / str(run), mvtec_root, model)
        means.append(model.model.scorer.density.mean)
    assert torch.equal(*means)


def test_loading_a_checkpoint_leaves_the_random_state_alone(tmp_path, mvtec_root):
    _, engine = fit(tmp_path, mvtec_root, CutPaste(max_updates=1, seed=0, **SMALL))
    state = torch.get_rng_state()
    CutPaste.load_from_checkpoint(engine.best_model_path)
    assert torch.equal(torch.get_rng_state(), state)


class OneImage(MVTecAD):
    """A datamodule with a single training image."""

    def _setup(self, stage=None):
        super()._setup(stage)
        self.train_data.samples = self.train_data.samples.iloc[:1]


def test_a_single_image_is_refused(tmp_path, mvtec_root):
    with pytest.raises(ValueError, match="CutPaste needs at least 2 training images, got 1"):
        fit(tmp_path, mvtec_root, CutPaste(max_updates=1, **SMALL), OneImage)


@pytest.mark.parametrize("limits", [{}, {"max_epochs": 1}])
def test_an_engine_that_has_trained_refuses_another_model(tmp_path, mvtec_root, limits):
    """Lightning counts on, and would not train it at all."""
    model = CutPaste(max_updates=2, **SMALL)
    _, engine = fit(tmp_path, mvtec_root, model, **limits)
    data = MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0)
    engine.fit(model, datamodule=data)  # nothing is left to do, and nothing is lost
    with pytest.raises(RuntimeError, match="CutPaste would not be trained at all: make a new Engine"):
        engine.fit(CutPaste(max_updates=2, **SMALL), datamodule=data)
