# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD trained by anomalib's engine: what is tuned, when, and what is said of it."""

import logging
from dataclasses import replace

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_ssl import STSSAD, CutPaste
from anomalib_ssl.models.st_ssad import lightning_model, tuning
from anomalib_ssl.models.st_ssad.settings import settings
from anomalib_ssl.models.st_ssad.tuning import Choice

SMALL = {"backbone": "test_resnet", "image_size": 32, "max_updates": 3, "visualizer": False}


def data(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0, **kwargs)


def make_engine(path, *callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=path, callbacks=list(callbacks), **{**quiet, **kwargs})


@pytest.fixture
def last(monkeypatch):
    """Let the last setting of each view be chosen; note how often something was tuned."""
    calls = []

    def choose(embed, candidates, normal, unlabeled, seed, equal_exposure):
        calls.append(({view: len(found) for view, found in candidates.items()}, len(torch.cat(list(unlabeled)))))
        chosen = {view: found[-1] for view, found in candidates.items()}
        return Choice(chosen, dict.fromkeys(chosen, 0.9), dict.fromkeys(chosen, 1.0), dict.fromkeys(chosen, 1))

    monkeypatch.setattr(lightning_model, "choose", choose)
    return calls


class StopAt(Callback):
    """Let a run end early."""

    def __init__(self, update):
        self.update = update

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step == self.update


def test_cutpaste_is_trained_with_what_was_chosen(tmp_path, mvtec_root, caplog, last):
    model, engine = STSSAD("test", seed=0, **SMALL), make_engine(tmp_path)
    given = model.views
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        engine.fit(model, datamodule=data(mvtec_root))
    assert last == [({"patch": 6, "scar": 6}, 8)]
    chosen = replace(given, patch=settings(given.patch)[-1], scar=settings(given.scar)[-1])
    assert model.views == chosen
    assert "TRANSDUCTIVE" in caplog.text
    assert f"Chosen for the view 'patch': {chosen.patch}" in caplog.text
    # Those arguments give CutPaste the same training.
    same = CutPaste(seed=0, **model.tuned_parameters, **SMALL)
    assert same.views == chosen
    make_engine(tmp_path / "same").fit(same, datamodule=data(mvtec_root))
    weights = same.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.model.state_dict().items())
    # Scored by a model that has not been trained itself.
    loaded = STSSAD.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    assert (loaded.views, loaded.transductive) == (chosen, True)
    (metrics,) = make_engine(tmp_path / "test").test(
        STSSAD(**SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path
    )
    assert metrics["transductive"] == 1
    # A second training of the same model begins with the given pastes.
    make_engine(tmp_path / "again").fit(model, datamodule=data(mvtec_root))
    assert model.views == chosen
    assert len(last) == 2


def test_a_run_that_goes_on_is_not_tuned_again(tmp_path, mvtec_root, last):
    engine = make_engine(tmp_path / "first", StopAt(1), limit_val_batches=0)
    engine.fit(STSSAD("test", seed=0, **SMALL), datamodule=data(mvtec_root))
    engine.trainer.save_checkpoint(tmp_path / "first.ckpt")
    resumed = STSSAD("test", seed=0, **SMALL)
    make_engine(tmp_path / "second", limit_val_batches=0).fit(
        resumed, datamodule=data(mvtec_root), ckpt_path=tmp_path / "first.ckpt"
    )
    assert resumed.trainer.global_step == 3
    assert resumed.transductive
    assert resumed.views.patch == settings(CutPaste(**SMALL).views.patch)[-1]
    assert len(last) == 1


def test_images_that_are_not_tested_are_not_transductive(tmp_path, mvtec_root):
    model = STSSAD(variant="4way", ensemble=2, seed=0, **SMALL)
    datamodule = data(mvtec_root, val_split_mode="from_test", val_split_ratio=0.5)
    (metrics,) = make_engine(tmp_path, precision="bf16-mixed").train(model=model, datamodule=datamodule)
    assert metrics["transductive"] == 0
    assert set(model.tuned_parameters) == {"patch", "scar", "blended"}
    assert CutPaste(variant="4way", **model.tuned_parameters, **SMALL).views == model.views


@pytest.mark.parametrize("mode", ["same_as_test", "none", "from_train", "synthetic"])
def test_without_images_to_tune_with_it_is_cutpaste(tmp_path, mvtec_root, caplog, mode, last):
    model = STSSAD(**SMALL)
    # Without validation images there is no validation, by anomalib's own rule.
    engine = make_engine(tmp_path, limit_val_batches=0 if mode == "none" else None)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root, val_split_mode=mode))
    assert metrics["transductive"] == 0
    assert model.views == CutPaste(**SMALL).views
    assert not last
    assert caplog.text.count("Nothing is tuned") == 1
    assert "unlabeled_source must be 'val' or 'test'" in caplog.text or "It must be 'val' or 'test'" in caplog.text
    # A source that was given is meant.
    if mode != "same_as_test":
        with pytest.raises(ValueError, match="unlabeled_source='val' cannot be used"):
            make_engine(tmp_path).fit(STSSAD("val", **SMALL), datamodule=data(mvtec_root, val_split_mode=mode))


def test_pastes_that_cannot_be_seen_are_reported(tmp_path, mvtec_root, caplog, monkeypatch):
    monkeypatch.setattr(tuning, "LEAST_VISIBILITY", 1.1)
    model = STSSAD("test", variant="normal", **SMALL)
    with caplog.at_level(logging.WARNING, logger="anomalib_ssl"):
        make_engine(tmp_path, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    assert "No setting of 'patch' can be told from normal images; it stays as given." in caplog.text
    assert model.views == CutPaste(variant="normal", **SMALL).views


def test_a_folder_is_saved_as_plain_data(tmp_path, mvtec_root, last):
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.fit(STSSAD(mvtec_root / "plate/test", **SMALL), datamodule=data(mvtec_root))
    engine.trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["unlabeled_source"] == str(mvtec_root / "plate/test")


def test_checkpoint_of_another_model_is_refused(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.fit(CutPaste(**SMALL), datamodule=data(mvtec_root))
    engine.trainer.save_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="STSSAD cannot be loaded from a checkpoint of CutPaste"):
        make_engine(tmp_path / "again").fit(
            STSSAD(**SMALL), datamodule=data(mvtec_root), ckpt_path=tmp_path / "other.ckpt"
        )


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="unlabeled_source must be 'val' or 'test'"):
        STSSAD(unlabeled_source=5, **SMALL)
