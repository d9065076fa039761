# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Images set aside from training: which, that they stay out, what is done to them, and that they come back."""

import logging
from pathlib import Path

import pytest
import torch
from anomalib.data import Folder, MVTecAD
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from lightning.pytorch import Callback, Trainer
from torchvision.transforms.v2 import CenterCrop, RandomHorizontalFlip

from anomalib_ssl import AutoencoderProjection
from anomalib_ssl.training.images import held_out
from anomalib_ssl.training.images.held_out import split_indices

SMALL = {
    "image_size": 32,
    "widths": (3, 4, 5),
    "sdc_layers": 1,
    "sdc_width": 3,
    "max_updates": 4,
    "seed": 0,
    "visualizer": False,
}
ALL = {f"{index:03d}" for index in range(6)}


@pytest.fixture(autouse=True)
def _six_are_enough(monkeypatch):
    monkeypatch.setattr(held_out, "LEAST_IMAGES", 6)


class Model(AutoencoderProjection):
    """Note the images that are held out, and those that statistics are fitted to."""

    def fit_statistics(self, images, held_out=()):
        self.fitted, self.held_out = (
            torch.cat([torch.zeros(0, 3, 32, 32), *batches]) for batches in (images, held_out)
        )
        self.names = {Path(path).stem for path in held_out.dataset.samples.image_path} if held_out else set()
        super().fit_statistics([self.fitted], [self.held_out] if held_out else [])


class Recorder(Callback):
    """Note which images are trained on, and fail if asked to."""

    def __init__(self, fail=False):
        self.names, self.fail = [], fail

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.names += [Path(path).stem for path in batch.image_path]
        if self.fail:
            raise ArithmeticError


def data(root, kind=MVTecAD, **kwargs):
    return kind(root=root, category="plate", train_batch_size=2, num_workers=0, **kwargs)


def fit(path, model, datamodule, recorder=None, **kwargs):
    recorder = recorder or Recorder()
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        **kwargs,
    )
    engine.fit(model, datamodule=datamodule)
    return recorder, engine


@pytest.mark.parametrize(
    ("count", "share", "expected"), [(10, 0.1, 1), (10, 0.01, 1), (60, 0.1, 6), (391, 0.1, 39), (5000, 0.5, 100)]
)
def test_split(count, share, expected):
    training, chosen = split_indices(count, share)
    assert len(chosen) == expected
    assert sorted(training + chosen) == list(range(count))
    assert (training, chosen) == split_indices(count, share)
    torch.manual_seed(count)
    assert (training, chosen) == split_indices(count, share)


def test_chosen_images_are_spread():
    _, chosen = split_indices(1000, 0.1)
    assert max(chosen) - min(chosen) > 900


@pytest.mark.parametrize("in_memory", [True, False])
def test_held_out_images_are_not_trained_on_and_come_back(tmp_path, mvtec_root, in_memory):
    model, datamodule = Model(**SMALL, in_memory=in_memory, held_out_share=0.34), data(mvtec_root)
    recorder, engine = fit(tmp_path, model, datamodule)
    assert len(model.names) == 2
    assert set(recorder.names) == ALL - model.names
    assert len(model.fitted) == 4
    assert {Path(path).stem for path in datamodule.train_data.samples.image_path} == ALL
    assert engine.trainer.num_training_batches == 2


def test_the_same_images_whatever_the_seed(tmp_path, mvtec_root):
    names = []
    for seed in (0, 1):
        model = Model(**SMALL | {"seed": seed})
        fit(tmp_path / str(seed), model, data(mvtec_root, seed=seed))
        names.append(model.names)
    assert names[0] == names[1]
    assert len(names[0]) == 1


def test_images_come_back_after_an_error(tmp_path, mvtec_root):
    datamodule = data(mvtec_root)
    with pytest.raises(ArithmeticError):
        fit(tmp_path, Model(**SMALL), datamodule, Recorder(fail=True))
    assert len(datamodule.train_data) == 6
    recorder, _ = fit(tmp_path, Model(**SMALL), datamodule)
    assert len(set(recorder.names)) == 5


def test_held_out_images_are_seen_as_test_images_are(tmp_path, mvtec_root):
    datamodule = data(mvtec_root, train_augmentations=RandomHorizontalFlip(p=1.0), test_augmentations=CenterCrop(48))
    model = Model(**SMALL)
    fit(tmp_path, model, datamodule)
    (name,) = model.names
    image = read_image(mvtec_root / f"plate/train/good/{name}.png", as_tensor=True)
    expected = model.pre_processor.transform(CenterCrop(48)(image.unsqueeze(0)))
    torch.testing.assert_close(model.held_out, expected)
    assert (model.fitted - expected).flatten(1).abs().max(dim=1).values.min() > 0.01


def test_test_images_take_no_part(tmp_path, mvtec_root, monkeypatch):
    from anomalib.data.datasets.base import image

    reads = []
    read = image.read_image
    monkeypatch.setattr(image, "read_image", lambda path, **kwargs: reads.append(Path(path)) or read(path, **kwargs))
    fit(tmp_path, Model(**SMALL), data(mvtec_root), limit_val_batches=0)
    assert reads
    assert {path.parent.parent.name for path in reads} == {"train"}


def messages(caplog):
    return [record.getMessage() for record in caplog.records if "held out" in record.getMessage()]


@pytest.mark.parametrize(
    ("share", "least", "expected"),
    [
        (0.2, 6, "1 of 6 training images are held out."),
        (0.2, 10, "No training images are held out: there are 6 training images, fewer than 10."),
        (0.0, 6, None),
    ],
)
def test_one_line_says_what_is_held_out(tmp_path, mvtec_root, monkeypatch, caplog, share, least, expected):
    monkeypatch.setattr(held_out, "LEAST_IMAGES", least)
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        recorder, engine = fit(tmp_path, Model(**SMALL, held_out_share=share), data(mvtec_root))
    assert messages(caplog) == ([] if expected is None else [expected])
    works = share > 0 and least == 6
    assert (len(set(recorder.names)) == 5) == ("held_out_image_AUROC" in engine.trainer.callback_metrics) == works


def test_metrics_are_logged_and_can_be_monitored(tmp_path, mvtec_root):
    from anomalib.callbacks import ModelCheckpoint

    checkpoint = ModelCheckpoint(monitor="held_out_image_AUROC", mode="max", dirpath=tmp_path)
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[checkpoint], enable_progress_bar=False
    )
    trainer.fit(AutoencoderProjection(**SMALL), datamodule=data(mvtec_root))
    logged = trainer.callback_metrics
    assert float(checkpoint.best_model_score) == pytest.approx(float(logged["held_out_image_AUROC"]))
    assert 0 < float(logged["held_out_pixel_AUROC"]) <= 1


def test_a_loader_without_a_datamodule_is_left_alone(tmp_path, mvtec_root, caplog):
    datamodule = data(mvtec_root)
    datamodule.setup()
    recorder = Recorder()
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[recorder])
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        trainer.fit(AutoencoderProjection(**SMALL), train_dataloaders=datamodule.train_dataloader())
    assert set(recorder.names) == ALL
    assert messages(caplog) == [
        "No training images are held out: training data does not come from a datamodule of anomalib."
    ]


def test_folder(tmp_path, mvtec_root):
    datamodule = Folder(
        name="plate",
        root=mvtec_root / "plate",
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/spot",
        train_batch_size=2,
        num_workers=0,
    )
    model = Model(**SMALL, held_out_share=0.5)
    recorder, _ = fit(tmp_path, model, datamodule)
    assert len(model.names) == 3
    assert set(recorder.names) == ALL - model.names


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_bad_shares_are_named(share):
    with pytest.raises(ValueError, match="held_out_share"):
        AutoencoderProjection(**SMALL, held_out_share=share)
