# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Fixtures and rules for the whole test suite."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def mvtec_root(tmp_path_factory) -> Path:
    """A tiny data set in MVTec layout, category ``plate``: smooth noise, a bright square as the defect ``spot``."""
    root = tmp_path_factory.mktemp("mvtec")
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 6), ("test/good", 4), ("test/spot", 4)):
        for index in range(count):
            coarse = rng.integers(60, 180, (8, 8, 3), dtype=np.uint8)
            image = np.asarray(Image.fromarray(coarse).resize((80, 80), Image.Resampling.BICUBIC)).copy()
            mask = np.zeros((80, 80), dtype=np.uint8)
            if folder == "test/spot":
                top, left = rng.integers(5, 55, 2)
                image[top : top + 20, left : left + 20] = 255
                mask[top : top + 20, left : left + 20] = 255
                target = root / "plate/ground_truth/spot" / f"{index:03d}_mask.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
            target = root / "plate" / folder / f"{index:03d}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(target)
    return root


@pytest.fixture
def double_by_default():
    """Make float64 the default data type, once the fixture's value is called."""
    yield lambda: torch.set_default_dtype(torch.float64)
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def no_download(monkeypatch):
    """Start pretrained networks from random weights."""
    create_model = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda name, **kwargs: create_model(name, **{**kwargs, "pretrained": False})
    )
