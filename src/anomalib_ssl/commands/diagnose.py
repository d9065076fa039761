# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl diagnose``: does a trained autoencoder behave like a projection onto the normal images?"""

from collections.abc import Mapping
from pathlib import Path

import torch
from anomalib.data import AnomalibDataModule
from anomalib.data.utils import read_image
from rich.console import Console
from rich.table import Table

from anomalib_ssl.checks import check_whole
from anomalib_ssl.image_files import find_images
from anomalib_ssl.models.autoencoder_projection import AutoencoderProjection

ROWS = {
    "fixed_point": ("fixed point", "0", "RMS of f(x) - x"),
    "recovery": ("recovery", "below 1", "|r - x| / |x_hat - x|"),
    "idempotence": ("idempotence", "0", "|f(r) - r| / |r - x_hat|"),
    "conservation": ("conservation", "at most 1", "|r - x_hat| / |x - x_hat|"),
    "nearest": ("nearest image", "at most 1", "|r - x_hat| / |y - x_hat|"),
    "locality": ("locality", "0", "RMS of r - x_hat, outside / inside"),
    "jacobian_symmetry": ("Jacobian symmetry", "1", "cosine of J u and J' u"),
    "jacobian_idempotence": ("Jacobian idempotence", "0", "|J J u - J u| / |J u|"),
}
"""Title, value of an orthogonal projection, and formula of each property."""

CAPTION = (
    "x: clean image; x_hat: the same, corrupted; r = f(x_hat): restored; y: the clean image nearest to x_hat; "
    "inside: the corrupted region; J: derivative of f at x; u: random direction"
)


def diagnose(
    ckpt_path: Path,
    data: AnomalibDataModule | Path,
    category: str | None = None,
    count: int = 16,
    seed: int = 0,
) -> int:
    """Corrupt images, let a trained AutoencoderProjection restore them, and compare it with an orthogonal projection.

    Best on normal images that were not trained on. For a clean image x, a corrupted copy x_hat and its restoration
    r = f(x_hat), it prints quantiles over the images beside what a projection onto the normal images would have. The
    corruption is that of training. Nothing is judged: which values a good model has is not known.

    Args:
        ckpt_path: Checkpoint of an AutoencoderProjection.
        data: A folder of images, searched with its subfolders, or any image datamodule of anomalib. Of a folder in
            MVTec layout ``train/good`` is used, of a datamodule the training images.
        category: Subfolder of ``data`` to look in, such as a category of MVTec AD.
        count: Number of images, drawn at random; all if there are fewer.
        seed: Seed of the choice of images, of the corruption and of the directions of derivatives.

    Returns:
        0.

    Raises:
        FileNotFoundError: If there is no checkpoint, or there are no images.
        ValueError: If the checkpoint is not one of an AutoencoderProjection, or ``count`` is less than 1.
    """
    check_whole("count", count, 1)
    model = load(ckpt_path)
    generator = torch.Generator().manual_seed(seed)
    paths = _paths(data, category)
    chosen = [paths[index] for index in torch.randperm(len(paths), generator=generator).tolist()[:count]]
    images = [torch.as_tensor(read_image(path, as_tensor=True)).unsqueeze(0) for path in chosen]
    clean = torch.cat([model.pre_processor(image) for image in images] if model.pre_processor else images)
    Console().print(table(model.diagnose(clean, generator), len(clean)))
    return 0


def load(ckpt_path: Path | str) -> AutoencoderProjection:
    """Load a checkpoint for evaluation.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is not one of an AutoencoderProjection.
    """
    if not Path(ckpt_path).is_file():
        msg = f"ckpt_path: there is no file '{ckpt_path}'."
        raise FileNotFoundError(msg)
    try:
        model = AutoencoderProjection.load_from_checkpoint(ckpt_path, map_location="cpu")
    except Exception as error:
        msg = f"ckpt_path: '{ckpt_path}' is not a checkpoint of AutoencoderProjection: {str(error).splitlines()[0]}"
        raise ValueError(msg) from error
    return model.eval()  # type: ignore[return-value]


def table(measured: Mapping[str, torch.Tensor], count: int) -> Table:
    """Lay out properties, one value an image (B,) each, as quantiles over the images."""
    result = Table(title=f"As a projection, on {count} images", caption=CAPTION, caption_justify="left")
    for heading in ("property", "ideal", "median", "10 % to 90 %", "formula"):
        result.add_column(heading, justify="right" if heading in ("median", "10 % to 90 %") else "left")
    for name, values in measured.items():
        title, ideal, formula = ROWS[name]
        low, median, high = values.double().quantile(values.new_tensor([0.1, 0.5, 0.9]).double()).tolist()
        result.add_row(title, ideal, f"{median:.3g}", f"{low:.3g} to {high:.3g}", formula)
    return result


def _paths(data: AnomalibDataModule | Path, category: str | None) -> list[Path]:
    if not isinstance(data, AnomalibDataModule):
        return find_images("data", Path(data) / (category or ""), "train/good")
    if category is not None:
        msg = f"category='{category}' goes with a folder; give the category to the datamodule instead."
        raise ValueError(msg)
    data.prepare_data()
    data.setup()
    return [Path(path) for path in data.train_data.samples.image_path]
