# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is scored with, saved and resumed from: averaged weights, and statistics of these."""

import copy

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_ssl import AutoencoderProjection
from anomalib_ssl.training.averaging import copied_weights, warm_decay
from anomalib_ssl.training.checkpointing import misfit
from anomalib_ssl.training.scoring_state import STATE

SMALL = {
    "image_size": 32,
    "widths": (3, 4, 5),
    "sdc_layers": 1,
    "sdc_width": 3,
    "max_updates": 6,
    "seed": 0,
    "visualizer": False,
    # Fast enough to tell weights of different updates apart.
    "lr": 1e-2,
}


class Model(AutoencoderProjection):
    """Note the weights that updates start from."""

    def training_step(self, batch, *args):
        self.before[self.trainer.global_step] = copied_weights(self.model.autoencoder)
        return super().training_step(batch, *args)


class Recorder(Callback):
    """Note the weights after each update, and those of each validation; stop or save on the way."""

    def __init__(self, stop_at=None, save_at=None, save_to=None):
        self.after, self.validated = {}, {}
        self.stop_at, self.save_at, self.save_to = stop_at, save_at, save_to

    def on_train_batch_end(self, trainer, module, *args):
        self.after[trainer.global_step] = copied_weights(module.model.autoencoder)
        if trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.save_to)
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True

    def on_validation_epoch_end(self, trainer, module):
        self.validated[trainer.global_step] = copied_weights(module.model.autoencoder)


def fit(path, mvtec_root, recorder=None, ckpt_path=None, limits=None, **kwargs):
    recorder = recorder or Recorder()
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        **{"check_val_every_n_epoch": None, "val_check_interval": 2, **(limits or {})},
    )
    model = Model(**SMALL | kwargs)
    model.before = recorder.before = {}
    datamodule = MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0)
    engine.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return model, recorder, engine


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0, msg=name)


def differ(one, other):
    return any(not torch.equal(value, other[name]) for name, value in one.items())


def saved_weights(path):
    state = torch.load(path, weights_only=True)["state_dict"]
    prefix = "model.autoencoder."
    names = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return {name: value for name, value in names.items() if value.is_floating_point()}


def averaged(recorder, updates, decay):
    """The average, in float64 and by its definition."""
    result = {name: value.double() for name, value in recorder.before[0].items()}
    for update in range(1, updates + 1):
        keep = warm_decay(update, decay)
        result = {name: keep * value + (1 - keep) * recorder.after[update][name] for name, value in result.items()}
    return result


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_validation_sees_the_average_and_training_does_not(tmp_path, mvtec_root, decay):
    model, recorder, engine = fit(tmp_path, mvtec_root, ema_decay=decay)
    assert sorted(recorder.validated) == [2, 4, 6]
    for update, weights in recorder.validated.items():
        for name, value in averaged(recorder, update, decay).items():
            torch.testing.assert_close(weights[name].double(), value, rtol=1e-5, atol=1e-6)
        assert differ(weights, recorder.after[update]) == (decay > 0)
    for update in range(1, 6):
        assert_same(recorder.before[update], recorder.after[update])
    assert_same(copied_weights(model.model.autoencoder), recorder.validated[6])
    assert_same(saved_weights(engine.best_model_path), recorder.validated[6])


def test_warm_decay():
    assert [warm_decay(n, 0.999) for n in (1, 10, 100)] == [2 / 11, 11 / 20, 101 / 110]
    assert warm_decay(10**6, 0.999) == 0.999


def test_statistics_belong_to_the_average(tmp_path, mvtec_root):
    model, _, _ = fit(tmp_path, mvtec_root)
    errors = model.model.scorer.maps["plain"]
    fitted = errors.mean.clone()
    datamodule = MVTecAD(root=mvtec_root, category="plate", num_workers=0)
    datamodule.setup()
    images = torch.stack([item.image for item in datamodule.train_data])
    model.fit_statistics([model.pre_processor.transform(images)])
    torch.testing.assert_close(errors.mean, fitted, rtol=1e-4, atol=0)


def test_lists_are_what_configurations_make_of_tuples():
    """So a checkpoint that does not fit is not refused for them."""
    written = {**SMALL, "widths": [3, 4, 5], "image_size": 64}
    reason = misfit({"hyper_parameters": written}, AutoencoderProjection(**SMALL))
    assert "image_size is 32, not 64. Give it" in reason
    assert "widths" not in reason


class Later(Recorder):
    """Save at the first batch after a validation, which is half of an update; or stop there, as a timer does."""

    def on_train_batch_end(self, trainer, module, *args):
        if self.validated and not self.after:
            self.after[trainer.global_step] = copied_weights(module.model.autoencoder)
            trainer.save_checkpoint(self.save_to)
            trainer.should_stop = True


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_half_an_update_after_a_validation(tmp_path, mvtec_root, decay):
    limits = {"accumulate_grad_batches": 2, "val_check_interval": 3}
    recorder, path = Later(save_to=tmp_path / "within.ckpt"), tmp_path / "within.ckpt"
    model, _, _ = fit(tmp_path, mvtec_root, recorder, limits=limits, ema_decay=decay, max_updates=20)
    first, *_, last = [*recorder.validated, *recorder.validated]
    assert_same(saved_weights(path), recorder.validated[first])
    assert_same(copied_weights(model.model.autoencoder), recorder.validated[last])
    datamodule = MVTecAD(root=mvtec_root, category="plate", num_workers=0)
    datamodule.setup()
    images = model.pre_processor.transform(torch.stack([item.image for item in datamodule.train_data]))
    for state in (torch.load(path, weights_only=True)["state_dict"], copy.deepcopy(model.state_dict())):
        model.load_state_dict(state)
        model.fit_statistics([images])
        for name, value in model.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("how", ["stop", "save"])
def test_a_resumed_run_ends_as_a_whole_one(tmp_path, mvtec_root, how, decay):
    whole, recorder, _ = fit(tmp_path / "whole", mvtec_root, ema_decay=decay)
    path = tmp_path / "within.ckpt"
    options = {"stop_at": 4} if how == "stop" else {"save_at": 3, "save_to": path}
    _, _, engine = fit(tmp_path / "first", mvtec_root, Recorder(**options), ema_decay=decay)
    path = engine.best_model_path if how == "stop" else path
    state = torch.load(path, weights_only=True)
    at = state["global_step"]
    assert (STATE in state) == (decay > 0)
    assert_same(state[STATE]["training"] if decay else saved_weights(path), recorder.after[at])
    for name, value in averaged(recorder, at, decay).items():
        torch.testing.assert_close(saved_weights(path)[name].double(), value, rtol=1e-5, atol=1e-6)
    resumed = Recorder()
    second, _, _ = fit(tmp_path / "second", mvtec_root, resumed, ckpt_path=path, ema_decay=decay)
    assert_same(resumed.before[at], recorder.after[at])
    assert_same(second.model.state_dict(), whole.model.state_dict())


def test_resuming_a_finished_run_keeps_its_weights(tmp_path, mvtec_root):
    model, _, engine = fit(tmp_path / "first", mvtec_root)
    again, recorder, _ = fit(tmp_path / "second", mvtec_root, ckpt_path=engine.best_model_path)
    assert recorder.before == {}
    assert_same(copied_weights(again.model.autoencoder), copied_weights(model.model.autoencoder))


def test_without_validation_the_last_average_is_saved(tmp_path, mvtec_root):
    model, recorder, engine = fit(tmp_path, mvtec_root, limits={"limit_val_batches": 0})
    expected = averaged(recorder, 6, 0.999)
    for name, value in saved_weights(engine.best_model_path).items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert_same(copied_weights(model.model.autoencoder), saved_weights(engine.best_model_path))


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_bad_decay_is_named(decay):
    with pytest.raises(ValueError, match="ema_decay"):
        AutoencoderProjection(**SMALL, ema_decay=decay)
