# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A folder of images, in memory, as a store of textures."""

from functools import lru_cache
from pathlib import Path

import torch
from torchvision.transforms.v2 import functional

from anomalib_ssl.image_files import find_images, read_image

TEXTURE_SIZE = 256
"""Side in pixels of the stored textures."""

MAX_TEXTURES = 512
"""Most textures that are read: 96 MiB. Of a larger folder, files at even distances in alphabetical order."""


def find_textures(folder: Path | str) -> list[Path]:
    """List the images of a folder and its subfolders that serve as textures.

    The Describable Textures Dataset is such a folder, and so is any other with images.

    Args:
        folder: Where to look.

    Returns:
        At most 512 files, spread over the folder.

    Raises:
        TypeError: If ``folder`` is no path.
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    if not isinstance(folder, Path | str):
        msg = f"textures must name a folder of images, got {folder!r}."
        raise TypeError(msg)
    paths = find_images("textures", folder)
    count = min(len(paths), MAX_TEXTURES)
    return [paths[number * len(paths) // count] for number in range(count)]


@lru_cache(maxsize=4)
def load_textures(folder: str, device: torch.device) -> torch.Tensor:
    """Read the textures of a folder, once per process and device.

    Args:
        folder: Where to look, see :func:`find_textures`.
        device: Where to keep them.

    Returns:
        The textures' centres (N, 3, 256, 256), uint8, resized by the shorter side.
    """
    return torch.stack([_read(path) for path in find_textures(folder)]).to(device)


def _read(path: Path) -> torch.Tensor:
    image = functional.resize(read_image(path), [TEXTURE_SIZE], antialias=True)
    return functional.center_crop(image, [TEXTURE_SIZE, TEXTURE_SIZE]).clamp_(0, 1).mul_(255).round_().to(torch.uint8)
