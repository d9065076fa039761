# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Statistics of the clean training images, whatever was done to them in training."""

import torch
from anomalib.data import Folder, MVTecAD
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, RandomHorizontalFlip

from anomalib_ssl import CutPaste


def fit(path, datamodule):
    model = CutPaste(backbone="test_resnet", image_size=32, max_updates=1, visualizer=False)
    Engine(default_root_dir=path, accelerator="cpu", enable_progress_bar=False).fit(model, datamodule=datamodule)
    return model


def test_training_images_are_seen_as_test_images_are(tmp_path, mvtec_root):
    options = {"train_batch_size": 2, "num_workers": 0, "test_augmentations": CenterCrop(48)}
    flip = RandomHorizontalFlip(p=1.0)
    datamodule = MVTecAD(root=mvtec_root, category="plate", train_augmentations=flip, **options)
    model = fit(tmp_path, datamodule)
    fitted = model.model.scorer.density.mean.clone()
    # The training images keep their augmentation.
    augmented = torch.stack([datamodule.train_data[i].image for i in range(6)])
    paths = datamodule.train_data.samples.image_path
    images = torch.stack([read_image(path, as_tensor=True) for path in paths])
    resize = model.pre_processor.transform
    torch.testing.assert_close(augmented, resize(images.flip(-1)))
    model.fit_statistics([augmented])
    assert not torch.allclose(model.model.scorer.density.mean, fitted)
    model.fit_statistics([resize(CenterCrop(48)(images))])
    torch.testing.assert_close(model.model.scorer.density.mean, fitted)


def test_images_of_different_sizes(tmp_path, mvtec_root):
    folder = tmp_path / "data/good"
    folder.mkdir(parents=True)
    for index, path in enumerate(sorted((mvtec_root / "plate/train/good").iterdir())):
        Image.open(path).resize((60 + 10 * index, 90)).save(folder / path.name)
    datamodule = Folder(name="mixed", root=tmp_path / "data", normal_dir="good", train_batch_size=3, num_workers=0)
    model = fit(tmp_path, datamodule)
    count = len(datamodule.train_data)
    assert model.model.scorer.density.num_fitted == count
    images = torch.stack([datamodule.train_data[i].image for i in range(count)])
    fitted = model.model.scorer.density.mean.clone()
    model.fit_statistics([images])
    torch.testing.assert_close(model.model.scorer.density.mean, fitted)
