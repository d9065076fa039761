# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl inspect``: what a trained model does inside, as a picture and a few numbers."""

from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.checks import check_output, check_whole
from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.inspection import Inspection, draw, inspect_candidates
from anomalib_ssl.training.images.transforms import preprocessed
from anomalib_ssl.training.mixin import SelfSupervisedMixin

MOST_ROWS = 100
"""Largest number of images: more make a picture that cannot be drawn."""

NAME_LENGTH = 30
"""Most characters of an image's name that fit below it."""


def inspect(
    images: list[Path],
    ckpt_path: Path,
    model: str | None = None,
    rows: int = 4,
    candidates: bool = False,
    seed: int = 0,
    output: Path = Path("inspection.png"),
) -> Path:
    """Draw what a trained model does inside with images, and print a few numbers about it.

    What that is, is the model's own: what its training task makes of the images and how well it is solved, and what
    anomaly map and score come from.

    Args:
        images: Image files and folders, which are searched with their subfolders; of a category in MVTec layout the
            test images are used.
        ckpt_path: Checkpoint of one of this package's models, or of your own made of its parts.
        model: Name of the model, or the full path of its class, where the checkpoint does not say it or it is your own.
        rows: Number of images, drawn at random if there are more.
        candidates: Whether to draw the heat maps of all candidates that the model's scorer chose from, side by side,
            in place of the model's inside.
        seed: Seed of the choice of images, and of all else that is random.
        output: PNG file to write.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or a folder holds no images.
        ValueError: If an argument is out of its range, or a file is not what it should be; the message names it.
    """
    check_whole("rows", rows, 1, MOST_ROWS)
    check_whole("seed", seed, 0, 2**63 - 1)
    check_output("output", output, (".png",))
    paths = [path for item in images for path in (find_images("images", item, "test") if item.is_dir() else [item])]
    loaded = load_checkpoint(ckpt_path, model)
    if not isinstance(loaded, SelfSupervisedMixin):
        msg = f"ckpt_path: '{ckpt_path}' is a checkpoint of {type(loaded).__name__}, which does not show its inside."
        raise ValueError(msg)  # noqa: TRY004  # the file is wrong, not its type
    with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad(), loaded.scoring_mode():
        torch.manual_seed(seed)
        chosen = [paths[index] for index in torch.randperm(len(paths))[:rows].sort().values.tolist()]
        read = _read(chosen, loaded)
        inspection = inspect_candidates(loaded, read) if candidates else loaded.inspect(read)
    Console().print(_table(f"{type(loaded).__name__}, images: {len(chosen)}", inspection))
    first, *others = inspection.columns
    names = [f"{path.parent.name}/{path.name}"[-NAME_LENGTH:] for path in chosen]
    draw([replace(first, captions=names), *others]).savefig(output, format="png", metadata={"Software": None})
    return output


def _read(paths: list[Path], model: SelfSupervisedMixin) -> torch.Tensor:
    """Read images and pre-process them as the model does: shape (B, 3, H, W), on the model's device."""
    images = [preprocessed(model, read_image(path).unsqueeze(0)) for path in paths]
    if len({image.shape for image in images}) != 1:
        msg = f"images must be at least one, and of one size for a model that does not resize them, got {len(images)}."
        raise ValueError(msg)
    return torch.cat(images).to(model.device)


def _table(title: str, inspection: Inspection) -> Table:
    table = Table(title=title, caption=inspection.note, caption_justify="left")
    for heading, value in inspection.numbers[0].items():
        table.add_column(heading, justify="left" if isinstance(value, str) else "right")
    for row in inspection.numbers:
        table.add_row(*(value if isinstance(value, str) else f"{value:.4g}" for value in row.values()))
    return table
