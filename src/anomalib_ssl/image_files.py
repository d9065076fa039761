# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Folders of image files."""

from pathlib import Path
from typing import Any

import torch
from anomalib.data import utils
from torchvision.datasets.folder import IMG_EXTENSIONS


def find_images(argument: str, folder: Path | str, preferred: str = "") -> list[Path]:
    """List the images of a folder and its subfolders.

    Args:
        argument: Name of the argument that names the folder, for errors.
        folder: Where to look.
        preferred: Subfolder to look in instead where there is one, such as ``train/good``.

    Returns:
        The files in alphabetical order.

    Raises:
        FileNotFoundError: If there is no such folder, or no image in it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        msg = f"{argument}: there is no folder '{folder}'."
        raise FileNotFoundError(msg)
    folder = folder / preferred if (folder / preferred).is_dir() else folder
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMG_EXTENSIONS and path.is_file())
    if not paths:
        msg = f"{argument}: no images ({', '.join(IMG_EXTENSIONS)}) in '{folder}' or its subfolders."
        raise FileNotFoundError(msg)
    return paths


def read_image(path: Path | str) -> torch.Tensor:
    """Read an image (3, H, W), values in [0, 1], as anomalib does.

    Raises:
        ValueError: If that fails; the message names the file.
    """
    try:
        image: Any = utils.read_image(path, as_tensor=True)
    except Exception as error:  # whatever a decoder raises
        msg = f"'{path}' cannot be read as an image: {error}"
        raise ValueError(msg) from error
    return torch.as_tensor(image)
