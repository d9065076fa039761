# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training where something is missing: an image, memory, an attribute of Lightning's, a backbone's activation."""

import logging
import shutil
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch.trainer.trainer import Trainer

from anomalib_ssl import CutPaste
from anomalib_ssl.training.images import feed
from anomalib_ssl.training.refusals import check_sync_batchnorm

SMALL = {"backbone": "test_resnet", "image_size": 32, "visualizer": False, "seed": 0, "max_updates": 3}


def fit(path, root, **arguments):
    model = CutPaste(**{**SMALL, **arguments})
    engine = Engine(default_root_dir=path, accelerator="cpu", enable_progress_bar=False, logger=False)
    engine.fit(model, datamodule=MVTecAD(root=root, category="plate", train_batch_size=2, num_workers=0))
    return model, engine


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "no image"])
def test_an_unreadable_training_image_is_named(tmp_path, mvtec_root, in_memory, damage):
    shutil.copytree(mvtec_root, tmp_path / "data")
    broken = tmp_path / "data/plate/train/good/003.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"no image")
    with pytest.raises(ValueError, match=r"Training image .*good.003\.png cannot be read"):
        fit(tmp_path / "run", tmp_path / "data", in_memory=in_memory)


@pytest.mark.parametrize(("devices", "stored"), [(1, True), (8, False)])
def test_processes_share_the_limit_of_host_memory(tmp_path, mvtec_root, monkeypatch, caplog, devices, stored):
    monkeypatch.setattr(Trainer, "num_devices", property(lambda _: devices))
    # Six images of 32 x 32 are 18,432 bytes.
    limits = (0.0, 2 * 18_432 / 2**30)
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        fit(tmp_path, mvtec_root, memory_limits=limits)
    assert ("are kept in memory" in caplog.text) == stored
    assert ("exceed memory_limits" in caplog.text) != stored


def test_without_an_attribute_of_lightning_the_stock_loader_is_used(tmp_path, mvtec_root, monkeypatch, caplog):
    monkeypatch.setattr(feed, "LIGHTNING_INSIDES", ("fit_loop.setup_data", "fit_loop.gone"))
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        model, engine = fit(tmp_path, mvtec_root)
    assert "has no fit_loop.gone" in caplog.text
    assert "kept in memory" not in caplog.text
    assert engine.trainer.global_step == 3
    assert model.model.scorer.is_fitted


def test_what_lightning_is_used_for_is_there():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert all(feed._has(trainer, path) for path in feed.LIGHTNING_INSIDES)


def test_sync_batchnorm_is_refused_where_it_drops_activations():
    synchronised = SimpleNamespace(strategy=SimpleNamespace(_layer_sync=object()))
    plain = SimpleNamespace(strategy=SimpleNamespace(_layer_sync=None))
    mobile, residual = (CutPaste(**{**SMALL, "backbone": f"test_{kind}"}).model for kind in ("efficientnet", "resnet"))
    with pytest.raises(ValueError, match="sync_batchnorm must be off"):
        check_sync_batchnorm(synchronised, mobile)
    check_sync_batchnorm(plain, mobile)
    check_sync_batchnorm(synchronised, residual)
    # The reason: torch's conversion changes the features of one of them alone.
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for model, same in ((mobile, False), (residual, True)):
        before = model.eval().backbone(images)
        after = torch.nn.SyncBatchNorm.convert_sync_batchnorm(model).eval().backbone(images)
        assert torch.allclose(before, after, atol=1e-4) == same
