# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Where ST-SSAD's unlabelled images come from, and that no label comes along."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from anomalib.data import AnomalibDataset, Folder, MVTecAD, MVTecAD2, MVTecLOCO
from anomalib.engine import Engine
from PIL import Image

from anomalib_ssl import STSSAD
from anomalib_ssl.models.st_ssad.unlabeled import UnlabeledBatches, find_unlabeled
from anomalib_ssl.training.images.held_out import HeldOut

SMALL = {"backbone": "test_resnet", "image_size": 32, "max_updates": 4, "visualizer": False}


def trainer_of(datamodule):
    """All that is asked of a Trainer."""
    if datamodule is not None:
        datamodule.setup()
    return SimpleNamespace(datamodule=datamodule)


def mvtec(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0, **kwargs)


def test_test_split_is_transductive(mvtec_root):
    for source in ("test", "val"):  # anomalib's default: the validation split is the test split
        found = find_unlabeled(source, trainer_of(mvtec(mvtec_root)))
        assert found.transductive
        assert {path.split("/")[-2] for path in found.paths} == {"good", "spot"}
        assert len(found.paths) == 8
        # The order of a split, by name, would give the labels away.
        assert list(found.paths) != sorted(found.paths)
        assert "test images" in found.description


def test_test_images_have_to_be_asked_for(mvtec_root, caplog):
    assert find_unlabeled(None, trainer_of(mvtec(mvtec_root))) is None
    assert "The validation images are test images (val_split_mode='same_as_test')" in caplog.text


def test_a_part_of_the_test_split_as_validation_split_is_not(mvtec_root):
    datamodule = mvtec(mvtec_root, val_split_mode="from_test", val_split_ratio=0.5)
    trainer = trainer_of(datamodule)
    found = find_unlabeled(None, trainer)
    assert found == find_unlabeled("val", trainer)
    assert not found.transductive
    assert len(found.paths) == len(datamodule.val_data)
    assert not set(found.paths) & set(datamodule.test_data.samples.image_path)


def test_folder(tmp_path, mvtec_root):
    plate = mvtec_root / "plate"
    shutil.copytree(plate / "test", tmp_path / "incoming")
    found = find_unlabeled(str(tmp_path / "incoming"), trainer_of(mvtec(mvtec_root)))
    assert (len(found.paths), found.transductive) == (8, False)
    # The very files of the test split, and the training images beside them.
    found = find_unlabeled(str(plate), trainer_of(mvtec(mvtec_root)))
    assert found.transductive
    assert not any("/train/" in path for path in found.paths)


def test_training_images_that_are_held_out_are_known(tmp_path, mvtec_root):
    """They are taken away from the datamodule before the model looks for unlabelled images."""
    good = tmp_path / "good"
    good.mkdir()
    for copy in range(30):
        shutil.copy(mvtec_root / "plate/train/good/000.png", good / f"{copy}.png")
    datamodule = Folder("parts", root=tmp_path, normal_dir="good", test_split_mode="none", val_split_mode="none")
    held_out = HeldOut(0.1)
    trainer = trainer_of(datamodule)
    held_out.setup(trainer, None, "fit")
    assert len(held_out.paths) > 1
    with pytest.raises(ValueError, match="holds 0 images that are not training images"):
        find_unlabeled(str(good), trainer, held_out.paths)


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        ("val", {"val_split_mode": "none"}, r"there is no validation split \(val_split_mode='none'\)"),
        ("val", {"val_split_mode": "from_train"}, "training images, which are normal"),
        ("val", {"val_split_mode": "synthetic"}, "its anomalies are synthetic"),
        ("test", {"test_split_mode": "synthetic"}, "its anomalies are synthetic"),
        ("val", {"test_split_mode": "synthetic"}, r"its anomalies are synthetic.* \(test_split_mode='synthetic'\)"),
    ],
)
def test_what_cannot_be_tuned_by_is_refused_and_no_default(mvtec_root, source, options, named):
    trainer = trainer_of(mvtec(mvtec_root, **options))
    with pytest.raises(ValueError, match=named):
        find_unlabeled(source, trainer)
    if source == "val":
        assert find_unlabeled(None, trainer) is None


@pytest.mark.parametrize("datamodule", [MVTecAD2(), MVTecLOCO()])
def test_validation_images_that_a_data_set_says_are_normal(datamodule):
    trainer = SimpleNamespace(datamodule=datamodule)
    with pytest.raises(ValueError, match=r"the validation images of MVTec.* are normal"):
        find_unlabeled("val", trainer)
    assert find_unlabeled(None, trainer) is None


def test_no_datamodule_has_no_default(caplog):
    assert find_unlabeled(None, trainer_of(None)) is None
    assert "Nothing is tuned" in caplog.text
    assert "needs a datamodule of anomalib" in caplog.text


def test_normal_and_missing_folders_are_refused(tmp_path, mvtec_root):
    trainer = trainer_of(mvtec(mvtec_root))
    with pytest.raises(ValueError, match="training images are normal"):
        find_unlabeled(str(mvtec_root / "plate/train"), trainer)
    with pytest.raises(FileNotFoundError, match="no folder"):
        find_unlabeled(str(tmp_path / "nowhere"), trainer)
    with pytest.raises(FileNotFoundError, match="no images"):
        find_unlabeled(str(tmp_path), trainer)
    with pytest.raises(ValueError, match="needs a datamodule"):
        find_unlabeled("test", trainer_of(None))


class Guard(pd.DataFrame):
    """Samples of which nothing but the paths of the images may be read."""

    def __getitem__(self, key):
        if key != "image_path":
            msg = f"{key} was touched"
            raise AssertionError(msg)
        return super().__getitem__(key)

    def __getattr__(self, name):
        if name in ("label", "label_index", "mask_path", "iloc", "loc"):
            msg = f"{name} was touched"
            raise AssertionError(msg)
        return super().__getattr__(name)


class Labels:
    """A datamodule's way of having labels: any look at an item or a label of a test image is an error."""

    @staticmethod
    def guard(monkeypatch, datamodule):
        setup, get = datamodule.setup, AnomalibDataset.__getitem__

        def guarded_setup(stage=None):
            setup(stage)
            for split in ("val", "test"):
                dataset = getattr(datamodule, f"{split}_data")
                if not isinstance(dataset._samples, Guard):
                    dataset._samples = Guard(dataset._samples)

        def guarded_get(self, index):
            assert self is not datamodule.val_data, "an item of the validation split was read"
            assert self is not datamodule.test_data, "an item of the test split was read"
            return get(self, index)

        monkeypatch.setattr(datamodule, "setup", guarded_setup)
        monkeypatch.setattr(AnomalibDataset, "__getitem__", guarded_get)


@pytest.mark.parametrize("source", ["val", "test"])
def test_training_touches_no_label_and_no_mask(tmp_path, mvtec_root, monkeypatch, source):
    datamodule = mvtec(mvtec_root)
    Labels.guard(monkeypatch, datamodule)
    model = STSSAD(unlabeled_source=source, **SMALL)
    # Without anomalib's own validation, which of course reads the labels.
    engine = Engine(default_root_dir=tmp_path, limit_val_batches=0, enable_progress_bar=False, accelerator="cpu")
    engine.fit(model, datamodule=datamodule)
    assert engine.trainer.global_step == 4
    assert model.transductive
    with pytest.raises(AssertionError, match="was touched"):
        datamodule.test_data.samples["label_index"]
    with pytest.raises(AssertionError, match="was touched"):
        _ = datamodule.test_data.samples.mask_path
    with pytest.raises(AssertionError, match="was read"):
        datamodule.test_data[0]


def batches(paths, trainer, model):
    return UnlabeledBatches(tuple(paths), trainer, model.pre_processor, torch.device("cpu"))


def test_images_are_those_that_the_test_sees(mvtec_root):
    datamodule = mvtec(mvtec_root)
    trainer, model = trainer_of(datamodule), STSSAD(**SMALL)
    (found,) = batches(sorted(find_unlabeled("test", trainer).paths), trainer, model)
    expected = torch.stack([model.pre_processor.transform(item.image) for item in datamodule.test_data])
    torch.testing.assert_close(found, expected.as_subclass(torch.Tensor))


def test_gray_images_and_other_suffixes_in_a_folder(tmp_path, mvtec_root):
    for number, path in enumerate(sorted((mvtec_root / "plate/test").rglob("*.png"))):
        image = Image.open(path)
        (image.convert("L") if number % 2 else image).save(tmp_path / f"{number}.{'BMP' if number % 3 else 'jpg'}")
    datamodule = Folder(
        name="plate", normal_dir=mvtec_root / "plate/train/good", test_split_mode="none", val_split_mode="none"
    )
    trainer = trainer_of(datamodule)
    found = find_unlabeled(str(tmp_path), trainer)
    model = STSSAD(**SMALL)
    (images,) = batches(found.paths, trainer, model)
    assert images.shape == (8, 3, 32, 32)
    # Sizes that differ are seen where nothing resizes.
    model.pre_processor = None
    Image.new("RGB", (9, 7)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match="unlabeled_source: images must all have one size"):
        list(batches([*found.paths, str(tmp_path / "small.png")], trainer, model))
