# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Planted defects as validation data: any model, two images and no masks included, and never a test image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import Folder, MVTecAD
from anomalib.engine import Engine
from anomalib.models import Draem, Padim, Patchcore, get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, seed_everything
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_ssl.qualification import PlantedValidation
from anomalib_ssl.qualification.validation import PlantedDataset, plant_files

SMALL = {"backbone": "resnet18", "layers": ["layer1"], "pre_trained": False, "visualizer": False}


def resize():
    return PreProcessor(Resize((64, 64), antialias=True))


def textures(folder):
    """Images that Draem makes defects of, in place of those that it would download."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return folder


MODELS = {
    "Padim": lambda _: Padim(pre_processor=resize(), n_features=8, **SMALL),
    "Patchcore": lambda _: Patchcore(pre_processor=resize(), coreset_sampling_ratio=0.01, **SMALL),
    "Draem": lambda folder: Draem(dtd_dir=textures(folder / "textures"), pre_processor=resize(), visualizer=False),
    "CutPaste": lambda _: get_model(
        "cut_paste", backbone="test_resnet", image_size=64, max_updates=4, seed=0, visualizer=False
    ),
}

SLOW = {name: [pytest.mark.slow] if name == "Draem" else [] for name in MODELS}


class Watch(Callback):
    """Remember what is trained and validated on."""

    def __init__(self):
        self.trained, self.validated, self.labels, self.masks = set(), set(), [], []

    def on_train_batch_start(self, trainer, module, batch, index):
        self.trained |= set(batch.image_path or ())

    def on_validation_batch_start(self, trainer, module, batch, *args):
        self.validated |= set(batch.image_path)
        self.labels += batch.gt_label.tolist()
        self.masks += batch.gt_mask.flatten(1).any(1).tolist()


def plate(root):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0)


def engine(folder, *callbacks, **arguments):
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "max_epochs": 1, **arguments}
    return Engine(default_root_dir=folder, callbacks=list(callbacks), **settings)


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW[name]) for name in MODELS])
def test_no_test_image_is_validated_on(name, mvtec_root, tmp_path):
    seed_everything(0)  # Draem draws with NumPy and Python as well
    watch, data, model = Watch(), plate(mvtec_root), MODELS[name](tmp_path)
    engine(tmp_path, PlantedValidation(defects=12), watch).fit(model, datamodule=data)
    assert watch.validated
    assert not any("plate/test" in path for path in watch.validated)
    assert len(watch.trained) == 5
    assert not watch.trained & watch.validated
    assert len(data.train_data) == 5
    assert watch.labels.count(False) == 1 * (len(watch.labels) // len(data.val_data))
    assert watch.masks == watch.labels  # a mask where there is a defect, none where there is not
    assert any(watch.labels)
    assert torch.isfinite(model.post_processor.image_threshold)
    assert all("plate/test" in path for path in data.test_data.samples.image_path)


def test_the_test_that_follows_is_of_test_images(mvtec_root, tmp_path):
    torch.manual_seed(0)
    data = plate(mvtec_root)
    running = engine(tmp_path, PlantedValidation(defects=12))
    model = MODELS["Padim"](tmp_path)
    running.fit(model, datamodule=data)
    validation = data.val_data
    [metrics] = running.test(model, datamodule=data)
    assert 0 <= metrics["image_AUROC"] <= 1
    running.validate(model, datamodule=data)
    assert data.val_data is validation
    assert len(data.train_data) == 5


def test_two_images_without_masks(tmp_path):
    (tmp_path / "good").mkdir()
    rng = np.random.default_rng(0)
    for number in range(2):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / f"good/{number}.png")
    data = Folder("parts", root=tmp_path, normal_dir="good", num_workers=0, test_split_mode="none")
    data.val_split_mode = data.val_split_mode.NONE
    torch.manual_seed(0)
    model = MODELS["Padim"](tmp_path)
    engine(tmp_path / "run", PlantedValidation(defects=12)).fit(model, datamodule=data)
    assert len(data.train_data) == 2
    assert isinstance(data.val_data, PlantedDataset)
    assert torch.isfinite(model.post_processor.image_threshold)


def test_files_are_what_was_planted(mvtec_root, tmp_path):
    sound = sorted((mvtec_root / "plate/train/good").glob("*.png"))
    samples = plant_files(sound, tmp_path / "a", ["patch", "stain"], 12, seed=0)
    again = plant_files(sound, tmp_path / "b", ["patch", "stain"], 12, seed=0)
    defective = samples[samples.label_index == 1]
    assert len(samples) - len(defective) == len(sound)
    assert len(defective) == 12
    originals = {np.asarray(Image.open(path)).tobytes() for path in sound}
    pixels = [np.asarray(Image.open(path)) for path in sound]
    for row, other in zip(defective.itertuples(), again[again.label_index == 1].itertuples(), strict=True):
        image, mask = np.asarray(Image.open(row.image_path)), np.asarray(Image.open(row.mask_path))
        assert Path(row.image_path).read_bytes() == Path(other.image_path).read_bytes()
        assert set(np.unique(mask)) == {0, 255}
        assert image.tobytes() not in originals
        # Outside of the mask it is one of the sound images, colours in their order.
        assert any((image[mask == 0] == one[mask == 0]).all() for one in pixels)


def test_on_the_command_line(mvtec_root, tmp_path):
    arguments = [
        "fit",
        "--model",
        "Padim",
        "--model.pre_trained",
        "false",
        "--model.layers",
        "[layer1]",
        "--model.n_features",
        "8",
    ]
    arguments += ["--data", "MVTecAD", "--data.root", str(mvtec_root), "--data.category", "plate"]
    arguments += ["--data.num_workers", "0", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    arguments += ["--trainer.callbacks", "anomalib_ssl.qualification.PlantedValidation"]
    arguments += ["--trainer.callbacks.defects", "6", "--default_root_dir", str(tmp_path)]
    cli = AnomalibCLI(args=arguments)
    assert isinstance(cli.datamodule.val_data, PlantedDataset)
    assert int(cli.datamodule.val_data.samples.label_index.sum()) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"share": 0.0}, "share must lie in"),
        ({"defects": 0}, "defects must lie in"),
        ({"families": ["dent"]}, "families must be a list of"),
        ({"seed": -1}, "seed must lie in"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PlantedValidation(**arguments)


def test_images_that_are_too_small_are_refused(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(5):
        Image.new("RGB", (12, 12)).save(tmp_path / f"good/{number}.png")
    data = Folder("parts", root=tmp_path, normal_dir="good", num_workers=0, test_split_mode="none")
    data.val_split_mode = data.val_split_mode.NONE
    with pytest.raises(ValueError, match="images must have sides of at least 16 pixels"):
        engine(tmp_path / "run", PlantedValidation()).fit(MODELS["Padim"](tmp_path), datamodule=data)
