# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Schedule, budget and progress, each alone."""

import logging
import math
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import MVTecAD
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar, Timer, TQDMProgressBar
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import DataLoader

from anomalib_ssl import CutPaste
from anomalib_ssl.training.budget import UpdateBudget
from anomalib_ssl.training.progress import LongRunNotice, UpdateProgressBar
from anomalib_ssl.training.schedule import cosine_schedule


def optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.03)


def test_cosine_equals_torch():
    ours, reference = optimizer(), optimizer()
    schedules = cosine_schedule(ours, lambda: 50), CosineAnnealingLR(reference, T_max=50)
    for _ in range(50):
        assert ours.param_groups[0]["lr"] == pytest.approx(reference.param_groups[0]["lr"], abs=1e-9)
        for o, schedule in zip((ours, reference), schedules, strict=True):
            o.step()
            schedule.step()
    assert ours.param_groups[0]["lr"] == pytest.approx(0)
    # Beyond the end the rate stays zero instead of rising again.
    ours.step()
    schedules[0].step()
    assert ours.param_groups[0]["lr"] == pytest.approx(0)


def test_cosine_follows_a_total_that_changes():
    ours, total = optimizer(), [10]
    schedule = cosine_schedule(ours, lambda: total[0], warmup=5)
    rates = []
    for update in range(1, 7):
        total[0] = 10 if update < 4 else 6
        ours.step()
        schedule.step()
        rates.append(ours.param_groups[0]["lr"] / 0.03)
    # The rise is a tenth of the total at most: one update of ten, none of six.
    cosine = [0.5 * (1 + math.cos(math.pi * share)) for share in (0, 1 / 9, 2 / 9, 4 / 6, 5 / 6, 1)]
    assert rates == pytest.approx(cosine, abs=1e-9)


class StopError(Exception):
    """Ends a run once the callbacks are set up."""


class SetupOnly(LightningModule):
    """A module whose run ends after the callbacks have been set up."""

    def setup(self, stage):
        raise StopError

    def training_step(self, batch):
        return batch.sum()

    def train_dataloader(self):
        return DataLoader(torch.zeros(4, 1))

    def configure_optimizers(self):
        return optimizer()


def run_setup(**arguments):
    trainer = Trainer(
        logger=False, enable_checkpointing=False, accelerator="cpu", callbacks=[UpdateBudget(100)], **arguments
    )
    with pytest.raises(StopError):
        trainer.fit(SetupOnly())
    return trainer


@pytest.mark.parametrize(
    ("arguments", "steps", "epochs"),
    [
        ({}, 100, 100),
        ({"max_epochs": 3}, 100, 3),
        ({"max_steps": 40}, 40, 40),
        ({"max_steps": 400}, 100, 100),
        ({"max_epochs": 3, "max_steps": 40}, 40, 3),
        ({"max_epochs": -1}, 100, 100),
        ({"max_time": "00:00:01:00"}, 100, 100),
        ({"max_epochs": 1000, "max_steps": 50}, 50, 1000),
    ],
)
def test_budget_only_lowers_limits(arguments, steps, epochs):
    trainer = run_setup(**arguments)
    assert (trainer.max_steps, trainer.max_epochs) == (steps, epochs)


def test_budget_leaves_other_stages_alone():
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    before = trainer.max_steps, trainer.max_epochs
    UpdateBudget(100).setup(trainer, None, "test")
    assert (trainer.max_steps, trainer.max_epochs) == before


def test_bad_budget_is_named():
    with pytest.raises(ValueError, match=r"max_updates.*0"):
        UpdateBudget(0)


@pytest.mark.parametrize(("callbacks", "ours"), [([], True), ([RichProgressBar()], True), ([TQDMProgressBar()], False)])
def test_default_progress_bar_is_replaced_and_others_stay(callbacks, ours):
    model = CutPaste(backbone="resnet10t")
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", callbacks=callbacks)
    model.trainer = trainer
    assert any(isinstance(callback, UpdateProgressBar) for callback in model.configure_callbacks()) == ours


def test_no_progress_bar_where_there_is_none():
    model = CutPaste(backbone="resnet10t")
    model.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", enable_progress_bar=False)
    assert not any(isinstance(callback, UpdateProgressBar) for callback in model.configure_callbacks())


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self):
        """Tell the time."""
        return self.now


class CountingBar(UpdateProgressBar):
    """Note at which updates the metrics are read."""

    def __init__(self):
        super().__init__()
        self.read_at = []

    def get_metrics(self, trainer, module):
        self.read_at.append(trainer.global_step)
        return super().get_metrics(trainer, module)


@pytest.mark.parametrize(("seconds_per_update", "expected"), [(0.2, [1, 4, 7, 10, 12]), (1.0, list(range(1, 13)))])
def test_metrics_are_read_twice_a_second_and_at_the_end(
    tmp_path, mvtec_root, monkeypatch, seconds_per_update, expected
):
    clock = Clock()
    monkeypatch.setattr("anomalib_ssl.training.progress.time.monotonic", clock)

    class Advance(Callback):
        def on_train_batch_start(self, *args):
            clock.now += seconds_per_update

    bar = CountingBar()
    trainer = Trainer(
        logger=False,
        enable_checkpointing=False,
        accelerator="cpu",
        callbacks=[bar, Advance()],
        limit_val_batches=0,
        default_root_dir=tmp_path,
    )
    datamodule = MVTecAD(root=mvtec_root, category="plate", train_batch_size=3, num_workers=0)
    model = CutPaste(backbone="test_resnet", image_size=32, max_updates=12, visualizer=False)
    trainer.fit(model, datamodule=datamodule)
    assert bar.read_at == expected
    assert (bar.train_progress_bar.completed, bar.train_progress_bar.total) == (12, 12)


def run_notice(monkeypatch, *, seconds_per_update, total, first=0, minutes=None):
    clock = Clock()
    monkeypatch.setattr("anomalib_ssl.training.progress.time.monotonic", clock)
    timer = Timer(timedelta(minutes=minutes or 0))
    monkeypatch.setattr(timer, "time_elapsed", lambda *_: clock.now)
    monkeypatch.setattr(timer, "time_remaining", lambda *_: 60 * minutes - clock.now)
    callbacks = [timer] if minutes else []
    trainer = SimpleNamespace(global_step=first, estimated_stepping_batches=total, world_size=1, callbacks=callbacks)
    notice = LongRunNotice()
    notice.on_train_start(trainer, None)
    for _ in range(40):
        clock.now += seconds_per_update
        trainer.global_step += 1
        notice.on_train_batch_end(trainer)


def test_long_run_says_so_once_with_the_flag(monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, logger="anomalib_ssl"):
        run_notice(monkeypatch, seconds_per_update=2.0, total=10_000)
    (record,) = caplog.records
    assert "5.5 hours" in record.message
    assert "--model.max_updates 1800" in record.message


def test_short_run_says_nothing(monkeypatch, caplog):
    with caplog.at_level(logging.WARNING, logger="anomalib_ssl"):
        run_notice(monkeypatch, seconds_per_update=0.3, total=10_000)
        run_notice(monkeypatch, seconds_per_update=2.0, total=10_000, first=9_000)
        run_notice(monkeypatch, seconds_per_update=2.0, total=10_000, minutes=15)
    assert not caplog.records
