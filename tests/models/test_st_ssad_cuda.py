# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""ST-SSAD and its augmentations on a GPU."""

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch.callbacks import ModelCheckpoint

from anomalib_ssl import STSSAD
from anomalib_ssl.augmentations import Rotation, SoftPatch
from anomalib_ssl.models.st_ssad.bilevel import inner_step, outer_loss

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("augmentation", [*map(SoftPatch, ("cutdiff", "cutout", "cutpaste")), Rotation()])
def test_same_parameters_give_the_same_result_as_on_the_cpu(augmentation):
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, _ = augmentation.apply(images, parameters)
    torch.testing.assert_close(augmentation.apply(images.cuda(), parameters)[0].cpu(), expected, atol=1e-4, rtol=0)


def test_gradient_equals_that_on_the_cpu():
    model = STSSAD(backbone="test_resnet", image_size=64, seed=0, visualizer=False)
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    places = model.augmentation.kind.sample(images.shape, generator=torch.Generator().manual_seed(0))
    gradients = []
    for device in ("cpu", "cuda"):
        model.to(device)
        values = {name: value.expand(6) for name, value in model.augmentation.values().items()}
        pictures = images.to(device)
        augmented, _ = model.augmentation.kind.apply(pictures, {**places, **values})
        step = inner_step(model.model.detector.train(), pictures, augmented, 0.1)
        loss = outer_loss(model.model.detector.eval(), step, pictures, augmented, pictures.flip(-1))
        gradients.append(torch.autograd.grad(loss, model.augmentation.raw)[0].cpu())
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0.05, atol=1e-3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_trains(tmp_path, mvtec_root, precision):
    small = {"backbone": "test_resnet", "image_size": 32, "num_starts": 2, "outer_batch_size": 4}
    model = STSSAD("test", max_updates=20, tuning_share=0.8, visualizer=False, **small)
    datamodule = MVTecAD(root=mvtec_root, category="plate", train_batch_size=3, num_workers=0)
    engine = Engine(default_root_dir=tmp_path, precision=precision, accelerator="gpu", devices=1)
    (metrics,) = engine.train(model=model, datamodule=datamodule)
    assert engine.trainer.global_step == 20
    assert metrics["transductive"] == 1
    assert not torch.equal(model.augmentation.raw.cpu(), torch.zeros(3))


def test_resumes_within_the_tuning(tmp_path, mvtec_root):
    small = {"backbone": "test_resnet", "image_size": 32, "num_starts": 2, "outer_batch_size": 4, "tuning_share": 0.8}
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    models = [STSSAD("test", max_updates=20, seed=0, visualizer=False, **small) for _ in range(3)]
    # Within a start, and in the second half of the tuning, where the parameters are summed up.
    for model, path in zip(models, (None, tmp_path / "step=3.ckpt", tmp_path / "step=13.ckpt"), strict=True):
        callbacks = [every] if path is None else []
        engine = Engine(default_root_dir=tmp_path / "run", callbacks=callbacks, accelerator="gpu", devices=1)
        datamodule = MVTecAD(root=mvtec_root, category="plate", train_batch_size=3, num_workers=0)
        engine.fit(model, datamodule=datamodule, ckpt_path=path)
        torch.testing.assert_close(
            model.tuning.tuner.tuned.cpu(), models[0].tuning.tuner.tuned.cpu(), rtol=0.1, atol=0.1
        )
