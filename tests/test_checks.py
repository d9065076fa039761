# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Argument checks: what they accept, and that their messages name argument, value and what is allowed."""

import math
import re

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from anomalib_ssl.checks import (
    check_choice,
    check_choices,
    check_flag,
    check_images,
    check_number,
    check_output,
    check_range,
    check_sides,
    check_size,
    check_whole,
    check_whole_range,
)

NO_NUMBERS = ["0.5", None, True, np.bool_(True), torch.tensor(0.5), [0.5], 0.5j]


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.float64(0.5), np.int64(1), np.uint8(0)])
def test_numbers_of_python_and_numpy_pass(value):
    check_number("share", value, 0, 1)
    check_range("share", [value, value], 0, 1)


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_what_is_no_number_is_named(value):
    with pytest.raises(TypeError) as error:
        check_number("share", value, 0, 1)
    assert str(error.value) == f"share must be a number in [0, 1], got {value!r}."
    with pytest.raises(TypeError, match="size must be a whole number"):
        check_whole("size", value, 1)
    with pytest.raises(TypeError, match=r"share must be an ordered pair .* inside \[0, 1\], got"):
        check_range("share", (0, value), 0, 1)


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf])
def test_numbers_outside_are_named(value):
    with pytest.raises(ValueError, match=rf"share must lie in \[0, 1\], got {value}"):
        check_number("share", value, 0, 1)


def test_whole_numbers():
    for value in (1, 3, np.int32(3), np.uint8(3)):
        check_whole("size", value, 1)
    for value in (2.5, 3.0, np.float64(3.0), "3"):
        with pytest.raises(TypeError, match=r"size must be a whole number in \[1, inf\]"):
            check_whole("size", value, 1)
    with pytest.raises(ValueError, match=r"size .*got 0"):
        check_whole("size", 0, 1)


@pytest.mark.parametrize("value", [5, "abc", None, torch.tensor([1, 2]), {1: 2}])
def test_ranges_are_sequences(value):
    with pytest.raises(TypeError, match="width must be an ordered pair"):
        check_range("width", value, 0, 9)
    with pytest.raises(TypeError, match="width must be an ordered pair"):
        check_whole_range("width", value, 0, 9)


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3), (2, 1), (-1, 2), (1, 10), (1, math.nan)])
def test_ranges_are_ordered_pairs(value):
    with pytest.raises(ValueError, match=r"width must be an ordered pair .* inside \[0, 9\], got"):
        check_range("width", value, 0, 9)


def test_ranges_of_whole_numbers():
    check_whole_range("width", OmegaConf.create([1, 2]), 1)
    with pytest.raises(TypeError, match=r"width must be a whole number .*got 2\.5"):
        check_whole_range("width", (1, 2.5), 1)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (64, (64, 64)),
        (np.int64(64), (64, 64)),
        ((32, 48), (32, 48)),
        ([32, 48], (32, 48)),
        (torch.Size([3, 4]), (3, 4)),
    ],
)
def test_sizes(value, size):
    result = check_size("image_size", value)
    assert result == size
    assert [type(side) for side in result] == [int, int]


def test_sizes_of_configurations():
    assert check_size("image_size", OmegaConf.create([32, 48])) == (32, 48)


@pytest.mark.parametrize("value", ["abc", 64.5, True, None, (64, 2.5), (True, 3), torch.tensor(64)])
def test_sizes_of_other_types_are_named(value):
    with pytest.raises(TypeError, match=r"image_size must be a whole number of pixels or a pair .*got"):
        check_size("image_size", value)


@pytest.mark.parametrize("value", [(64,), (64, 64, 3), (), 0, (0, 64), -1])
def test_sizes_of_other_lengths_or_without_pixels_are_named(value):
    with pytest.raises(ValueError, match=r"image_size must be a whole number of pixels or a pair .*got"):
        check_size("image_size", value)


def test_sides_that_are_multiples():
    check_sides("images", (64, 32), 32)
    check_sides("images", torch.Size([8, 24]), 8)
    for size in ((64, 40), (40, 64), (0, 32), (16, 32)):
        with pytest.raises(ValueError, match=r"images must have sides that are multiples of 32 pixels, got") as error:
            check_sides("images", size, 32)
        assert str(size) in str(error.value)


@pytest.mark.parametrize("value", ["c", 1, None, ["a"], {}])
def test_choices(value):
    check_choice("kind", "a", {"b": 1, "a": 2})
    with pytest.raises(ValueError, match=r"kind must be one of \['a', 'b'\], got"):
        check_choice("kind", value, {"b": 1, "a": 2})


def test_lists_of_choices():
    check_choices("kinds", ["b", "a"], ("a", "b", "c"))
    check_choices("kinds", (), ("a", "b"), least=0)
    for value in ([], ["a", "a"], ["d"], [["a"]]):
        with pytest.raises(ValueError, match=r"kinds must be a list of 1 or more of \['a', 'b'\], each at most once"):
            check_choices("kinds", value, ("a", "b"))
    for value in ("a", 5, None):
        with pytest.raises(TypeError, match="kinds must be a list"):
            check_choices("kinds", value, ("a", "b"))


def test_flags():
    check_flag("on", False)
    for value in (0, "false", None):
        with pytest.raises(TypeError, match="on must be true or false, got"):
            check_flag("on", value)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 0, 8), (2, 3, 8, 0), (3, 8, 8)])
def test_batches_without_pixels_are_refused(shape):
    with pytest.raises(ValueError, match=re.escape(str(shape))) as error:
        check_images(torch.zeros(shape))
    assert "images must have the shape (B, C, H, W), every dimension at least 1" in str(error.value)


def test_outputs_that_can_be_written(tmp_path):
    check_output("output", tmp_path / "new/page.PNG", (".png",))
    check_output("output", str(tmp_path / "runs"))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["new", "runs"], "nothing but folders is made"
    (tmp_path / "kept.png").write_bytes(b"x")
    check_output("output", tmp_path / "kept.png", (".png",))
    assert (tmp_path / "kept.png").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("path", "suffixes", "message"),
    [
        ("page.jpg", (".png",), "output must name a .png file, got"),
        ("page.yam", (".yaml", ".yml"), "output must name a .yaml or .yml file, got"),
        ("file/page.png", (".png",), "output must be a file that can be written, got"),
        ("file", (), "output must be a folder that can be written, got"),
        ("folder.png", (".png",), "output must be a file that can be written, got"),
        ("x" * 300, (), "output must be a folder that can be written, got"),
    ],
)
def test_outputs_that_cannot_be_written_are_named(tmp_path, path, suffixes, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=message) as error:
        check_output("output", tmp_path / path, suffixes)
    assert str(tmp_path / path) in str(error.value)
