# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The data set on disk: layout, repeatability, and what anomalib makes of it."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from anomalib.data import Folder, MVTecAD
from PIL import Image

from anomalib_ssl.demo import SURFACES, write_dataset

SMALL = {"num_train": 3, "num_test_good": 2, "num_test_per_defect": 2, "image_size": 64}


def digests(root: Path) -> dict[str, str]:
    """Hash of every file below a folder, by relative path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set with two surfaces."""
    return write_dataset(tmp_path_factory.mktemp("demo"), surfaces=["wood", "tile"], **SMALL)


def test_layout(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir()) == ["tile", "wood"]
    for name in ("wood", "tile"):
        defects = SURFACES[name].defects
        expected = {"demo.json"}
        expected |= {f"train/good/{number:03}.png" for number in range(3)}
        expected |= {f"test/{label}/{number:03}.png" for label in ("good", *defects) for number in range(2)}
        expected |= {f"ground_truth/{label}/{number:03}_mask.png" for label in defects for number in range(2)}
        assert set(digests(root / name)) == expected


def test_images_are_rgb_and_masks_are_black_and_white(root: Path) -> None:
    for path in (root / "wood").rglob("*.png"):
        pixels = np.asarray(Image.open(path))
        if "ground_truth" in path.parts:
            assert pixels.shape == (64, 64)
            assert set(np.unique(pixels)) == {0, 255}
        else:
            assert pixels.shape == (64, 64, 3)
            assert pixels.std() > 5


def test_same_seed_same_bytes_other_seed_other_images(root: Path, tmp_path: Path) -> None:
    again = write_dataset(tmp_path / "again", surfaces=["wood"], **SMALL)
    other = write_dataset(tmp_path / "other", surfaces=["wood"], seed=1, **SMALL)
    assert digests(again / "wood") == digests(root / "wood")
    assert not set(digests(other / "wood").values()) & set(digests(root / "wood").values())


def test_images_do_not_depend_on_how_many_there_are(root: Path, tmp_path: Path) -> None:
    fewer = write_dataset(tmp_path, surfaces=["wood"], **{**SMALL, "num_train": 2, "num_test_per_defect": 1})
    images = {name: digest for name, digest in digests(fewer / "wood").items() if name.endswith(".png")}
    assert images.items() <= digests(root / "wood").items()


def test_all_images_differ(root: Path) -> None:
    images = [digest for name, digest in digests(root).items() if name.endswith(".png") and "ground_truth" not in name]
    assert len(set(images)) == len(images)


def test_mvtec_datamodule_reads_it(root: Path) -> None:
    datamodule = MVTecAD(root=root, category="wood", train_batch_size=3, eval_batch_size=4, num_workers=0)
    datamodule.prepare_data()
    datamodule.setup()
    train, test = next(iter(datamodule.train_dataloader())), list(datamodule.test_dataloader())
    assert train.image.shape == (3, 3, 64, 64)
    assert sum(len(batch.image) for batch in test) == 2 + 2 * len(SURFACES["wood"].defects)
    for batch in test:
        assert (batch.gt_mask.flatten(1).any(1) == batch.gt_label).all()


def test_folder_datamodule_reads_it(root: Path) -> None:
    datamodule = Folder(
        name="tile",
        root=root / "tile",
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/chip",
        mask_dir="ground_truth/chip",
        val_split_mode="same_as_test",
        num_workers=0,
    )
    datamodule.setup()
    labels = [int(item.gt_label) for item in datamodule.test_data]
    assert sorted(labels) == [0, 0, 1, 1]


def test_a_complete_category_is_kept(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}
    write_dataset(root, surfaces=["wood"], **SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*.png")}


def test_other_images_are_never_mixed_in(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match=r"already holds a 'wood' that was made with .*'seed': 0.*'seed': 1"):
        write_dataset(root, surfaces=["wood"], seed=1, **SMALL)
    (tmp_path / "tile").mkdir()
    with pytest.raises(FileExistsError, match="not complete"):
        write_dataset(tmp_path, surfaces=["tile"], **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surfaces": ["wood", "cheese"]}, r"surfaces must be .*fabric.*wood.*'cheese'"),
        ({"surfaces": []}, "surfaces must be a list of 1 or more"),
        ({"surfaces": "wood"}, "surfaces must be a list .*'wood'"),
        ({"num_train": 1}, "num_train must .*2.*got 1"),
        ({"num_test_good": 0}, "num_test_good must .*1.*got 0"),
        ({"num_test_per_defect": 0}, "num_test_per_defect must .*1.*got 0"),
        ({"image_size": 16}, "image_size must .*32, 2048.*got 16"),
        ({"image_size": 64.0}, "image_size must be a whole number .*64.0"),
        ({"seed": -1}, "seed must .*0.*got -1"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        write_dataset(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_root_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"root must be a folder .*file"):
        write_dataset(tmp_path / "file")
