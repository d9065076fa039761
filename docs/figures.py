# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Trains models for a short while on generated images, and draws their inside: ``python docs/figures.py [NAME ...]``.

The pictures are those of the models' pages. They show what a model does, not how good it gets: budgets are small.
"""

import sys
import tempfile
from pathlib import Path

from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from PIL import Image

from anomalib_ssl.commands.inspect import inspect
from anomalib_ssl.demo import write_dataset

FIGURES = Path(__file__).parent / "models"

MODELS = {
    "CutPaste": ("fabric", {"image_size": 64, "max_updates": 150}),
    "NSA": ("tile", {"image_size": 64, "max_updates": 200}),
    "SSM": ("wood", {"image_size": 64, "max_updates": 400, "widths": [16, 32, 64, 64], "patch_size": 2}),
    "AutoencoderProjection": ("metal", {"image_size": 64, "max_updates": 200, "widths": [16, 32, 64]}),
    "DynamicLocalAugmentation": ("fabric", {"image_size": 64, "max_updates": 60}),
    "STSSAD": ("leather", {"image_size": 64, "max_updates": 60, "unlabeled_source": "test"}),
}
"""Surface and arguments of each."""


def draw(name: str, folder: Path) -> Path:
    """Train a model and draw its inside with two defective images.

    Args:
        name: Name of the model.
        folder: Folder for images and checkpoint.

    Returns:
        The picture, a WebP file.
    """
    surface, arguments = MODELS[name]
    root = write_dataset(folder / "data", [surface], num_train=40, num_test_good=4, num_test_per_defect=2)
    datamodule = MVTecAD(root=root, category=surface, train_batch_size=8, eval_batch_size=8, num_workers=0)
    engine = Engine(accelerator="cpu", default_root_dir=folder, logger=False)
    engine.fit(get_model(name, seed=0, visualizer=False, **arguments), datamodule=datamodule)
    checkpoint = Path(engine.trainer.checkpoint_callback.best_model_path)
    images = sorted(path for path in (root / surface / "test").glob("*/000.png") if path.parent.name != "good")[:2]
    picture = inspect(images, checkpoint, output=folder / "picture.png")
    Image.open(picture).convert("RGB").save(FIGURES / f"{name}.webp", quality=60, method=6)
    return FIGURES / f"{name}.webp"


if __name__ == "__main__":
    FIGURES.mkdir(exist_ok=True)
    for model in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as temporary:
            print(draw(model, Path(temporary)))  # noqa: T201
