# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Files like photographs of full size: smooth content under sensor noise, which PNG can compress but little."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

CATEGORY = "plate"


def photograph(size: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draw a square RGB image (size, size, 3): coarse random colours, enlarged smoothly, under Gaussian noise."""
    coarse = rng.integers(60, 190, (8, 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)
    noisy = smooth + rng.normal(0, 4, smooth.shape).astype(np.float32)
    return noisy.clip(0, 255).astype(np.uint8)


def write_category(root: Path, size: int, num_train: int, num_test: int = 4, seed: int = 0) -> Path:
    """Write a category in the layout of MVTec AD; its defect is a bright square.

    Args:
        root: Folder of the data set; the category in it is called ``plate``.
        size: Side of the images in pixels.
        num_train: Training images.
        num_test: Test images without and again as many with the defect.
        seed: Seed of all images.

    Returns:
        ``root``.
    """
    rng = np.random.default_rng(seed)
    for folder, count in (("train/good", num_train), ("test/good", num_test), ("test/spot", num_test)):
        for number in range(count):
            image = photograph(size, rng)
            if folder == "test/spot":
                mask = np.zeros((size, size), dtype=np.uint8)
                top, left = rng.integers(0, size - size // 4, 2)
                spot = np.s_[top : top + size // 4, left : left + size // 4]
                image[spot] = image[spot] // 2 + 127
                mask[spot] = 255
                _save(root / CATEGORY / "ground_truth/spot" / f"{number:03}_mask.png", mask)
            _save(root / CATEGORY / folder / f"{number:03}.png", image)
    return root


def _save(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
