# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl tune``: choose CutPaste's patches by unlabelled images, as a configuration to train with."""

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from anomalib.data import AnomalibDataModule, Folder
from anomalib.engine import Engine
from omegaconf import OmegaConf

from anomalib_ssl.checks import check_output, check_whole
from anomalib_ssl.image_files import find_images
from anomalib_ssl.models.st_ssad import STSSAD

logger = logging.getLogger(__name__)

AREA_FACTOR = 1.5
"""Patches are drawn from the tuned area divided by this to the area multiplied by it."""

ASPECT_FACTOR = 1.25
"""The same for their aspect."""

DIAGONAL = (22.5, 67.5)
"""Angles in degrees between a patch's longer side and the horizontal that count as neither wide nor tall."""

LIMITS = (1e-3, 0.9)
"""Smallest and largest area of a patch that is written."""


def tune(
    data: AnomalibDataModule | Path,
    unlabeled_source: str,
    category: str | None = None,
    augmentation: Literal["cutpaste", "cutdiff", "cutout"] = "cutpaste",
    updates: int = 1000,
    image_size: int = 128,
    batch_size: int = 16,
    backbone: str = "resnet18",
    num_starts: int = 4,
    outer_batch_size: int = 64,
    area: tuple[float, float] = (0.02, 0.15),
    aspect: tuple[float, float] = (0.3, 3.3),
    seed: int = 0,
    results: Path = Path("results"),
    output: Path = Path("cutpaste_tuned.yaml"),
) -> Path:
    """Tune a soft patch by unlabelled images with STSSAD, and write a configuration of CutPaste with such patches.

    CutPaste's rectangles are drawn from a small interval about what was found: that they are drawn at all, and how wide
    the interval is, is this package's choice. Train with: anomalib train --config OUTPUT --data ...

    Args:
        data: A folder of normal images, searched with its subfolders, or any image datamodule of anomalib. Of a folder
            in MVTec layout ``train/good`` is used.
        unlabeled_source: Unlabelled images, normal and anomalous ones mixed: a folder, or ``val`` or ``test`` for a
            split of the datamodule. With a folder in MVTec layout as ``data``, ``test`` stands for its test images.
            Labels are never read. With test images, whatever is trained with the result is transductive.
        category: Subfolder of ``data`` to look in, such as a category of MVTec AD.
        augmentation: What the patch does to an image while it is tuned.
        updates: Updates of the tuning; each takes several times as long as one of CutPaste.
        image_size: Side in pixels to which images are resized.
        batch_size: Training images per update.
        backbone: Name of a timm network with a spatial feature map.
        num_starts: Number of starts, of which the best is gone on with.
        outer_batch_size: Normal and unlabelled images per step of the patch's parameters.
        area: Smallest and largest area of the patch as a share of the image's.
        aspect: Smallest and largest width / height of the patch.
        seed: Seed of everything random.
        results: Folder of anomalib's results, in which the course of the tuning is kept.
        output: YAML file to write.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: If there are no images.
        ValueError: If an argument is out of its range, or the unlabelled images are known to be normal.
    """
    check_output("output", output, (".yaml", ".yml"))
    check_output("results", results)
    check_whole("updates", updates, 4)
    check_whole("batch_size", batch_size, 2)
    datamodule, source = _data(data, category, unlabeled_source, batch_size)
    model = STSSAD(
        unlabeled_source=source,
        augmentation=augmentation,
        backbone=backbone,
        image_size=image_size,
        max_updates=updates,
        num_starts=num_starts,
        tuning_share=1.0,
        outer_batch_size=outer_batch_size,
        area=area,
        aspect=aspect,
        seed=seed,
        visualizer=False,
    )
    # Nothing is scored here, and no label shall be near.
    engine = Engine(default_root_dir=results, limit_val_batches=0)
    engine.fit(model=model, datamodule=datamodule)
    patch = patches(model.tuned_parameters)
    header = [
        f"Tuned by anomalib-ssl tune with unlabeled_source={unlabeled_source}: {model.augmentation.in_words()}.",
        "The intervals about these values are this package's choice. Use it beside your data:",
        f"  anomalib train --config {output.name} --data MVTecAD --data.category bottle",
    ]
    if model.transductive:
        header.append("TRANSDUCTIVE: tuned with unlabelled test images. Say so wherever results are shown.")
    settings = {
        "model": {
            "class_path": "anomalib_ssl.models.CutPaste",
            "init_args": {"backbone": backbone, "variant": "normal", "image_size": image_size, "patch": patch},
        }
    }
    text = "".join(f"# {line}\n" for line in header) + OmegaConf.to_yaml(OmegaConf.create(settings))
    output.write_text(text, encoding="utf-8")
    logger.info("Wrote %s", output)
    return output


def patches(tuned: Mapping[str, float]) -> dict[str, Any]:
    """Turn a tuned patch into arguments of CutPaste's patches.

    Its rectangles stand upright, so a patch is taken as wide where its longer side is near the horizontal and as tall
    where it is near the vertical; in between, as either with equal chance.

    Args:
        tuned: ``area`` as a share of the image's, ``aspect`` of at least 1, and ``angle`` of the longer side in
            degrees, as :attr:`~anomalib_ssl.models.st_ssad.STSSAD.tuned_parameters` gives them.

    Returns:
        ``area`` and ``aspect`` of :class:`~anomalib_ssl.augmentations.CutPaste`.

    Example:
        >>> patches({"area": 0.03, "aspect": 2.0, "angle": 80.0})
        {'area': [0.02, 0.045], 'aspect': [[0.4, 0.625], [0.4, 0.625]]}
    """
    low, high = (min(max(bound, LIMITS[0]), LIMITS[1]) for bound in _interval(tuned["area"], AREA_FACTOR))
    wide, tall = _interval(tuned["aspect"], ASPECT_FACTOR), _interval(1 / tuned["aspect"], ASPECT_FACTOR)
    # From the horizontal, either way round.
    angle = abs((tuned["angle"] + 90) % 180 - 90)
    if angle < DIAGONAL[0]:
        tall = wide
    elif angle > DIAGONAL[1]:
        wide = tall
    return {"area": [_rounded(low), _rounded(high)], "aspect": [[*map(_rounded, tall)], [*map(_rounded, wide)]]}


def _interval(value: float, factor: float) -> tuple[float, float]:
    return value / factor, value * factor


def _rounded(value: float) -> float:
    """Four significant digits."""
    return round(value, 3 - math.floor(math.log10(value)))


def _data(
    data: AnomalibDataModule | Path, category: str | None, unlabeled_source: str, batch_size: int
) -> tuple[AnomalibDataModule, str]:
    """The datamodule to tune with, and the unlabelled images as STSSAD names them."""
    if isinstance(data, AnomalibDataModule):
        if category is not None:
            msg = f"category='{category}' goes with a folder; give the category to the datamodule instead."
            raise ValueError(msg)
        data.train_batch_size = batch_size
        return data, unlabeled_source
    root = Path(data) / (category or "")
    if unlabeled_source == "val":
        msg = f"unlabeled_source='val' needs a datamodule; for the folder '{root}' give 'test' or a folder."
        raise ValueError(msg)
    normal = root / "train/good" if (root / "train/good").is_dir() else root
    find_images("data", normal)
    sound, defective = _test_folders(root / "test")
    if unlabeled_source == "test" and not (sound and defective):
        msg = f"unlabeled_source='test' needs a folder in MVTec layout; '{root}' has no test/good and test/<defect>."
        raise FileNotFoundError(msg)
    options: dict[str, Any] = {"train_batch_size": batch_size, "num_workers": 0, "val_split_mode": "none"}
    if sound and defective:
        # Known as test images, so that it is noticed where a folder of unlabelled images is one of theirs.
        options |= {"normal_test_dir": sound, "abnormal_dir": defective}
    else:
        options["test_split_mode"] = "none"
    return Folder(name=root.resolve().name, normal_dir=str(normal.resolve()), **options), unlabeled_source


def _test_folders(test: Path) -> tuple[str | None, list[str]]:
    """Folders of the sound and of the defective test images in MVTec layout, where there are any."""
    folders = sorted(path.resolve() for path in test.iterdir() if path.is_dir()) if test.is_dir() else []
    sound = [str(path) for path in folders if path.name == "good"]
    return (sound[0] if sound else None), [str(path) for path in folders if path.name != "good"]
