# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The grid of images, results and masks."""

from pathlib import Path

import numpy as np
import pytest
from anomalib.data import MVTecAD
from jsonargparse import ArgumentParser
from PIL import Image

from anomalib_ssl.augmentations import CutPaste
from anomalib_ssl.commands.preview import DEFAULT_AUGMENTATIONS, available_augmentations, preview
from anomalib_ssl.demo import write_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in MVTec layout."""
    return write_dataset(
        tmp_path_factory.mktemp("data"),
        surfaces=["wood"],
        num_train=5,
        num_test_good=1,
        num_test_per_defect=1,
        image_size=64,
    )


def test_known_augmentations() -> None:
    assert set(DEFAULT_AUGMENTATIONS) <= set(available_augmentations())


def test_writes_the_grid(root: Path, tmp_path: Path) -> None:
    path = preview(root, "wood", rows=3, image_size=64, output=tmp_path / "new" / "grid.png")
    assert path == tmp_path / "new" / "grid.png"
    width, height = Image.open(path).size
    # Five columns (the input, two results and their masks), three rows and a line of titles.
    assert 1.2 < width / height < 1.8


def test_every_column_and_row_counts(root: Path, tmp_path: Path) -> None:
    def size(rows: int, augmentations: list[str]) -> tuple[int, int]:
        return Image.open(preview(root, "wood", augmentations, rows, 32, output=tmp_path / "grid.png")).size

    width, height = size(1, ["CutPaste"])
    assert size(1, ["CutPaste", "CutPasteScar"]) == (pytest.approx(width * 5 / 3, abs=8), height)
    taller = size(3, ["CutPaste"])
    assert taller[0] == width
    assert taller[1] - height == pytest.approx(2 * width / 3, abs=8)


def test_same_seed_same_bytes(root: Path, tmp_path: Path) -> None:
    files = [
        preview(root, "wood", rows=2, image_size=64, seed=seed, output=tmp_path / f"{number}.png").read_bytes()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_first_columns_do_not_depend_on_later_ones(root: Path, tmp_path: Path) -> None:
    pictures = [
        np.asarray(Image.open(preview(root, "wood", names, 1, 64, output=tmp_path / "grid.png")).convert("RGB"))
        for names in (["CutPaste"], ["CutPaste", "CutPasteScar"])
    ]
    shared = pictures[0].shape[1] - 20
    assert np.array_equal(pictures[0][:, :shared], pictures[1][:, :shared])


def test_any_folder_of_images(root: Path, tmp_path: Path) -> None:
    for number, suffix in enumerate(("jpg", "BMP", "tif", "png")):
        (tmp_path / "deep" / str(number)).mkdir(parents=True)
        image = Image.open(root / "wood/train/good/000.png")
        image.convert("L" if suffix == "png" else "RGB").save(tmp_path / f"deep/{number}/image.{suffix}")
    assert preview(tmp_path, rows=6, image_size=32, output=tmp_path / "grid.png").is_file()


def test_category_folder_means_its_sound_training_images(root: Path, tmp_path: Path) -> None:
    first = preview(root, "wood", rows=2, image_size=32, output=tmp_path / "a.png").read_bytes()
    for data in (root / "wood", root / "wood/train/good", MVTecAD(root=root, category="wood")):
        assert preview(data, rows=2, image_size=32, output=tmp_path / "b.png").read_bytes() == first


def test_takes_augmentations_with_settings_of_their_own(root: Path, tmp_path: Path) -> None:
    plain = preview(root, "wood", ["CutPaste"], rows=1, image_size=32, output=tmp_path / "a.png").read_bytes()
    large = preview(root, "wood", [CutPaste(area=(0.3, 0.4))], rows=1, image_size=32, output=tmp_path / "b.png")
    assert large.read_bytes() != plain


def test_a_single_name(root: Path, tmp_path: Path) -> None:
    files = [
        preview(root, "wood", names, rows=2, image_size=32, output=tmp_path / "grid.png").read_bytes()
        for names in ("LocalCorruption", ["LocalCorruption"])
    ]
    assert files[0] == files[1]


def test_command_line_takes_folders_and_datamodules(root: Path) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_function_arguments(preview)
    options = parser.parse_args([f"--data={root}", "--category=wood", "--augmentations=[CutPaste, ColorJitter]"])
    assert options.augmentations == ["CutPaste", "ColorJitter"]
    assert isinstance(parser.instantiate_classes(options).data, Path)
    options = parser.parse_args([f"--data={root}", "--augmentations=LocalCorruption"])
    assert options.augmentations == "LocalCorruption"
    options = parser.parse_args(["--data=MVTecAD", f"--data.root={root}", "--data.category=wood"])
    assert isinstance(parser.instantiate_classes(options).data, MVTecAD)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"augmentations": ["CutPast"]}, ValueError, "augmentations .*CutPaste.*CutPasteScar.*'CutPast'"),
        ({"augmentations": ["Augmentation"]}, ValueError, "augmentations must be one of"),
        ({"category": "bottle"}, FileNotFoundError, "there is no folder .*bottle"),
        ({"seed": -1}, ValueError, "seed must .*0.*-1"),
        ({"rows": 0}, ValueError, "rows must .*1.*0"),
        ({"image_size": 2}, ValueError, "image_size must .*8.*2"),
        ({"output": Path("grid.jpg")}, ValueError, "output must name a .png file, got 'grid.jpg'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, object], error: type, message: str, root: Path) -> None:
    with pytest.raises(error, match=message):
        preview(root, **{"category": "wood", **arguments})


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match="no images"):
        preview(tmp_path, output=tmp_path / "grid.png")


def test_category_goes_with_folders_only(root: Path) -> None:
    with pytest.raises(ValueError, match="give the category to the datamodule"):
        preview(MVTecAD(root=root, category="wood"), category="wood")
