# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Arguments of augmentations: on the command line, as mappings and back, and of the wrong type."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from omegaconf import OmegaConf

from anomalib_ssl.augmentations import (
    Augmentation,
    BlendedPatch,
    ColorJitter,
    CutPaste,
    CutPasteScar,
    LocalAugmentation,
    LocalCorruption,
    RandomCrop,
    RandomShift,
    Symmetries,
)
from anomalib_ssl.commands.preview import available_augmentations
from anomalib_ssl.plain_data import from_mapping, to_mapping

EXAMPLES: list[Augmentation] = [
    CutPaste(area=(0.1, 0.2), jitter=0.3),
    CutPasteScar(angle=20, reference_size=64),
    RandomShift(3, reference_size=64),
    ColorJitter(0.2, 0.2),
    RandomCrop(12),
    LocalAugmentation(grid=3, operations=["jitter"], reference_size=None),
    LocalCorruption(p=0.5, fills={"flat": 1.0, "noise": 2.0}, shapes=["blob"]),
    Symmetries(flips=["vertical"], rotation=5),
    BlendedPatch(2, outlines=["ellipse", "blob"], background=0.1),
]
examples = pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)

FIELDS = [
    (CutPaste, "area", "[0.02, 0.15]", (0.02, 0.15)),
    (CutPaste, "aspect", "[[0.5, 1], [1, 2]]", ((0.5, 1.0), (1.0, 2.0))),
    (CutPaste, "jitter", "0", 0.0),
    (CutPasteScar, "width", "[3, 4]", (3, 4)),
    (CutPasteScar, "length", "[10, 12]", (10, 12)),
    (CutPasteScar, "reference_size", "null", None),
    (RandomShift, "max_shift", "2", 2),
    (RandomShift, "reference_size", "128", 128.0),
    (ColorJitter, "hue", "0.05", 0.05),
    (RandomCrop, "size", "16", 16),
    (LocalAugmentation, "region", "[20, 40]", (20, 40)),
    (LocalAugmentation, "operations", "[rotation, grayscale]", ("rotation", "grayscale")),
    (LocalAugmentation, "weighting", "static", "static"),
    (LocalAugmentation, "jitter", "[0.1, 0.1, 0.1, 0.1]", (0.1, 0.1, 0.1, 0.1)),
    (LocalCorruption, "fills", "[image, deform]", ("image", "deform")),
    (LocalCorruption, "fills", "{image: 2, deform: 1}", {"image": 2.0, "deform": 1.0}),
    (LocalCorruption, "shapes", "[stroke]", ("stroke",)),
    (LocalCorruption, "regions", "[1, 2]", (1, 2)),
    (LocalCorruption, "reference_size", "null", None),
    (Symmetries, "flips", "[horizontal]", ("horizontal",)),
    (Symmetries, "quarter_turns", "true", True),
    (BlendedPatch, "outlines", "[blob]", ("blob",)),
    (BlendedPatch, "background", "null", None),
    (BlendedPatch, "height", "[0.1, 0.2]", (0.1, 0.2)),
]


def parse(default, *arguments):
    """What a model with ``default`` as an argument is given by a command line."""
    kind = type(default)

    class Model:
        def __init__(self, patch: kind = default):
            self.patch = patch

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Model, "x")
    return parser.instantiate_classes(parser.parse_args(list(arguments))).x.patch


def test_all_augmentations_are_tested():
    assert {type(example) for example in EXAMPLES} == set(available_augmentations().values())
    assert {kind for kind, *_ in FIELDS} == set(available_augmentations().values())


@pytest.mark.parametrize(("kind", "field", "text", "value"), FIELDS, ids=lambda item: getattr(item, "__name__", None))
def test_command_line(kind, field, text, value):
    (default,) = (example for example in EXAMPLES if type(example) is kind)
    assert parse(default, f"--x.patch.{field}", text) == replace(default, **{field: value})


@examples
def test_the_models_default_wins_where_nothing_is_given(example):
    assert parse(example) == example


def test_textures_on_the_command_line(tmp_path):
    (tmp_path / "one.png").touch()
    patch = parse(LocalCorruption(), f"--x.patch.textures={tmp_path}")
    assert patch == LocalCorruption(textures=tmp_path)
    assert to_mapping(patch)["textures"] == str(tmp_path)
    assert from_mapping(LocalCorruption, to_mapping(patch), "patch") == patch


def test_the_command_line_names_wrong_arguments():
    with pytest.raises(Exception, match=r"x\.patch\.area"):
        parse(CutPaste(), "--x.patch.area", "large")
    with pytest.raises(ValueError, match="area must be an ordered pair"):
        parse(CutPaste(), "--x.patch.area", "[0.3, 0.2]")


def is_plain(value):
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return all(map(is_plain, value)) if type(value) is tuple else type(value) in (int, float, bool, str, type(None))


@examples
def test_to_a_mapping_and_back(example, tmp_path):
    mapping = to_mapping(example)
    assert is_plain(mapping)
    assert from_mapping(type(example), mapping, "patch") == example
    assert from_mapping(type(example), OmegaConf.create(mapping), "patch") == example
    torch.save(mapping, tmp_path / "mapping.pt")
    assert torch.load(tmp_path / "mapping.pt", weights_only=True) == mapping
    assert from_mapping(type(example), example, "patch") is example


def test_numpy_becomes_plain():
    patch = CutPasteScar(width=[np.int64(2), np.int64(3)], angle=np.float32(10), reference_size=np.int32(64))
    assert is_plain(to_mapping(patch))
    assert patch == CutPasteScar((2, 3), angle=10.0, reference_size=64)


def test_what_a_mapping_lacks_is_taken_from_the_default():
    assert from_mapping(CutPasteScar, {"angle": 20}, "scar") == CutPasteScar(angle=20)
    default = CutPasteScar(reference_size=64)
    assert from_mapping(default, {"angle": 20}, "scar") == CutPasteScar(angle=20, reference_size=64)
    assert from_mapping(default, CutPasteScar(), "scar") == CutPasteScar()


def test_other_dataclasses():
    @dataclass(frozen=True)
    class Folder:
        path: str | Path = "here"

    assert to_mapping(Folder(Path("there"))) == {"path": "there"}
    assert from_mapping(Folder, {"path": "there"}, "folder") == Folder("there")


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        (
            {"size": 3},
            ValueError,
            r"patch must hold arguments of CutPaste, one of \['area', 'aspect', 'jitter'\].*'size'",
        ),
        ({"area": 3}, TypeError, r"patch: area must be an ordered pair .*got 3"),
        ({"area": [0.3, 0.2]}, ValueError, r"patch: area must be an ordered pair .*got \(0.3, 0.2\)"),
        ("CutPaste", TypeError, "patch must be a CutPaste or a mapping of its arguments, got 'CutPaste'"),
        (CutPasteScar(), TypeError, "patch must be a CutPaste or a mapping of its arguments, got CutPasteScar"),
        (None, TypeError, "patch must be a CutPaste"),
    ],
)
def test_wrong_mappings_are_named(value, kind, message):
    with pytest.raises(kind, match=message):
        from_mapping(CutPaste, value, "patch")


def test_missing_folders_are_named():
    with pytest.raises(FileNotFoundError, match="corruption: textures: there is no folder"):
        from_mapping(LocalCorruption, {"textures": "nowhere"}, "corruption")


@examples
def test_arguments_of_other_types_are_named(example):
    for field in fields(example):
        for value in (object(), torch.tensor([0.1, 0.2]), {"a": 1}):
            with pytest.raises((TypeError, ValueError), match=field.name):
                replace(example, **{field.name: value})


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CutPasteScar, {"width": (2, 3.5)}),
        (CutPasteScar, {"length": (2.0, 3)}),
        (RandomShift, {"max_shift": 2.5}),
        (RandomCrop, {"size": 32.0}),
        (LocalAugmentation, {"region": (10.5, 20)}),
        (LocalAugmentation, {"grid": 2.5}),
        (LocalAugmentation, {"tries": True}),
        (LocalCorruption, {"regions": (1, 2.5)}),
    ],
)
def test_fractions_are_refused_where_whole_numbers_are_meant(kind, arguments):
    (name,) = arguments
    with pytest.raises(TypeError, match=f"{name} must be a whole number"):
        kind(**arguments)


@examples
def test_batches_without_pixels_are_refused(example):
    for shape in ((0, 3, 64, 64), (2, 3, 0, 64), (2, 3, 64, 0)):
        with pytest.raises(ValueError, match="images must have the shape"):
            example(torch.zeros(shape))
