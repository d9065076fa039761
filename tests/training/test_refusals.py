# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What cannot be scored is refused before the first update, not after the last."""

import numpy as np
import pytest
from anomalib.data import Folder, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, StochasticWeightAveraging
from PIL import Image
from torchvision.transforms import v2

from anomalib_ssl import CutPaste


class Updates(Callback):
    """Counts them."""

    def __init__(self):
        self.made = 0

    def on_train_batch_end(self, *args):
        self.made += 1


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({"pre_processor": False}, {}, r"image_size must be that of the images, \(80, 80\).*got \(32, 32\)"),
        ({}, {"train_augmentations": v2.Normalize([0.5] * 3, [0.25] * 3)}, r"values in \[0, 1\], got -1\.\d\d to "),
    ],
    ids=["size", "range"],
)
@pytest.mark.parametrize("in_memory", [True, False])
def test_images_that_cannot_be_scored_are_refused_before_the_first_update(
    model, data, message, in_memory, tmp_path, mvtec_root
):
    updates = Updates()
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False, callbacks=[updates])
    plate = MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0, **data)
    refused = CutPaste("pool", backbone="test_resnet", image_size=32, max_updates=3, in_memory=in_memory, **model)
    with pytest.raises(ValueError, match=message):
        engine.fit(refused, datamodule=plate)
    assert updates.made == 0


@pytest.mark.parametrize("callback", [EMAWeightAveraging(), StochasticWeightAveraging(swa_lrs=0.1)])
def test_statistics_are_not_averaged(callback, tmp_path, mvtec_root):
    updates = Updates()
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", callbacks=[updates, callback])
    model = CutPaste(backbone="test_resnet", image_size=32, max_updates=3)
    with pytest.raises(ValueError, match=f"must not average weights, got {type(callback).__name__}"):
        engine.fit(model, datamodule=MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0))
    assert updates.made == 0


@pytest.mark.parametrize("deep", [1, 12])
def test_files_that_are_read_as_white_are_refused(deep, tmp_path):
    for number in range(12):
        grey = np.full((40, 40), 100 + number, dtype=np.uint16 if number < deep else np.uint8)
        for folder in ("good", "test"):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(grey).save(tmp_path / folder / f"{number}.png")
    updates = Updates()
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", callbacks=[updates])
    data = Folder("deep", root=tmp_path, normal_dir="good", normal_test_dir="test", train_batch_size=2, num_workers=0)
    with pytest.raises(ValueError, match=r"8 bits a colour, got I;16 of '.*png', which is read as white"):
        engine.fit(CutPaste(backbone="test_resnet", image_size=32, max_updates=3), datamodule=data)
    assert updates.made == 0
