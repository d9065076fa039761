# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Shows the refinement of SSM: what each pass hides, restores and finds different."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import torch
from anomalib.data.utils import read_image
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anomalib_ssl.checks import check_whole
from anomalib_ssl.image_files import find_images
from anomalib_ssl.models.ssm.lightning_model import SSM
from anomalib_ssl.models.ssm.refinement import RefinementPass

logger = logging.getLogger(__name__)

Picture = npt.NDArray[np.floating[Any]]
"""Colours of pixels (H, W, 3), in [0, 1]."""

PANEL = 2.0
"""Width of one panel, in inches."""

COVER = 0.25
"""How much is left of the brightness of hidden pixels."""

EDGE = (1.0, 0.45, 0.1)
"""sRGB colour of the line around what is not uncovered."""

OPACITY = 0.7
"""How much of the image the largest value of the map covers."""

COLOURS = "inferno"
"""Matplotlib's colours of errors and maps."""


def refine(
    ckpt_path: Path,
    data: list[Path] | Path,
    passes: int | None = None,
    rows: int = 4,
    seed: int = 0,
    output: Path = Path("refinement.png"),
) -> Path:
    """Draw how a trained SSM refines its masks on images, pass by pass.

    Each row is an image: as the model sees it, then for each pass what is hidden (darkened, within the line that bounds
    what is not uncovered yet), the restoration and its error, all at the largest cells; then the map of all cells over
    the image. The colours of errors and maps mean the same in all rows.

    Args:
        ckpt_path: Checkpoint of an SSM.
        data: An image, several, or a folder of images, searched with its subfolders; of a category in MVTec layout
            the test images are used.
        passes: Number of passes, also more than the model was trained with. Defaults to those of the model.
        rows: Number of images, drawn at random, if ``data`` is a folder that holds more.
        seed: Seed of the choice of images.
        output: PNG file to write.

    Returns:
        The file that was written.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or there are no images.
        ValueError: If an argument is out of its range, or the checkpoint is not one of an SSM.
    """
    check_whole("rows", rows, 1)
    if passes is not None:
        check_whole("passes", passes, 1)
    output = Path(output)
    if output.suffix.lower() != ".png":
        msg = f"output must name a .png file, got '{output}'."
        raise ValueError(msg)
    paths = _choose(data, rows, seed)
    model = _load(Path(ckpt_path), passes)
    images = torch.stack([_read(path, model) for path in paths])
    # One by one: memory for the restorations of all is not needed, nor is a large chunk.
    recorded = [[_to_host(one) for one in model.model.refine(image.unsqueeze(0))] for image in images]
    figure = draw_refinement(images.cpu(), recorded, [f"{path.parent.name}/{path.name}" for path in paths])
    output.parent.mkdir(parents=True, exist_ok=True)
    # No metadata: the file's bytes say what was drawn and nothing else.
    figure.savefig(output, format="png", metadata={"Software": None})
    logger.info("Wrote %s", output)
    return output


def draw_refinement(
    images: torch.Tensor, passes: Sequence[Sequence[RefinementPass]], names: Sequence[str] | None = None
) -> Figure:
    """Draw what :meth:`~anomalib_ssl.models.ssm.SSMModel.refine` has recorded, one row for each image.

    Args:
        images: Shape (B, 3, H, W), values in [0, 1].
        passes: For each of them the passes of a batch of this image alone, equally many.
        names: Names of the images. Defaults to none.

    Returns:
        The figure.

    Raises:
        ValueError: If there are not as many recordings and names as images.

    Example:
        >>> import torch
        >>> from anomalib_ssl.models.ssm import SSMModel
        >>> model, images = SSMModel((32, 32), (4, 8, 8), cell_sizes=(32, 64)).eval(), torch.rand(2, 3, 32, 32)
        >>> model.fit([images])
        >>> figure = draw_refinement(images, [model.refine(image.unsqueeze(0)) for image in images])
        >>> len(figure.axes)  # for both the image, three panels for each of two passes, and the map
        16
    """
    names = [""] * len(images) if names is None else names
    if not len(images) == len(passes) == len(names) > 0:
        msg = f"images, passes and names must be equally many, got {len(images)}, {len(passes)} and {len(names)}."
        raise ValueError(msg)
    errors = [float(one.errors[-1].max()) for recorded in passes for one in recorded]
    maps = [float(recorded[-1].anomaly_map.max()) for recorded in passes]
    rows = [
        _panels(_pixels(image), recorded, name, max(*errors, 1e-9), max(*maps, 1e-9))
        for image, recorded, name in zip(images, passes, names, strict=True)
    ]
    return _layout(rows, images.shape[-2] / images.shape[-1])


def _panels(
    image: Picture, passes: Sequence[RefinementPass], name: str, largest_error: float, largest_score: float
) -> list[tuple[str, str, Picture, Picture | None]]:
    """Make the panels of a row: titles, captions, pictures, and regions to outline."""
    panels: list[tuple[str, str, Picture, Picture | None]] = [("input", name, image, None)]
    for number, recorded in enumerate(passes, start=1):
        visible = recorded.masks[-1, 0, 0, 0].numpy()[..., np.newaxis]
        covered = 1 - recorded.uncovered[0, 0].numpy()
        hidden = image * (COVER + (1 - COVER) * visible)
        share = f"{1 - covered.mean():.0%} uncovered"
        panels += [
            (f"pass {number}: hidden", share, hidden, covered),
            ("restored", "", _pixels(recorded.restored[-1, 0]), None),
            ("error", "", _colours(recorded.errors[-1, 0, 0], largest_error), None),
        ]
    heat = passes[-1].anomaly_map[0, 0]
    opacity = OPACITY * heat.unsqueeze(-1).numpy() / largest_score
    overlay = (1 - opacity) * image.mean(axis=-1, keepdims=True) + opacity * _colours(heat, largest_score)
    return [*panels, ("map", f"score {float(heat.max()):.4f}", overlay, None)]


def _layout(rows: list[list[tuple[str, str, Picture, Picture | None]]], aspect: float) -> Figure:
    """Lay out rows of panels, titles above the first row and captions below each panel."""
    head, gap, foot = 0.32, 0.06, 0.2
    panel_height = PANEL * aspect
    width, height = len(rows[0]) * PANEL + gap, len(rows) * (panel_height + foot) + head + gap
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    for row, panels in enumerate(rows):
        for column, (title, caption, picture, outlined) in enumerate(panels):
            left, bottom = column * PANEL + gap, (len(rows) - 1 - row) * (panel_height + foot) + foot + gap
            box = (left / width, bottom / height, (PANEL - gap) / width, (panel_height - gap) / height)
            axes: Axes = figure.add_axes(box)
            axes.imshow(picture, interpolation="antialiased")
            axes.set_axis_off()
            if outlined is not None and outlined.min() < outlined.max():
                axes.contour(outlined, levels=[0.5], colors=[EDGE], linewidths=1.2)
            axes.text(0.5, -0.02, caption, transform=axes.transAxes, ha="center", va="top", fontsize=8, color="0.35")
            if row == 0:
                axes.set_title(title, fontsize=11, color="0.1", pad=5)
    return figure


def _colours(values: torch.Tensor, largest: float) -> Picture:
    """Turn values (H, W) from 0 to ``largest`` into colours."""
    colours: Picture = mpl.colormaps[COLOURS](values.numpy() / largest)[..., :3]
    return colours


def _pixels(image: torch.Tensor) -> Picture:
    """Turn an image (3, H, W), whose restored pixels may leave [0, 1], into a picture."""
    pixels: Picture = image.clamp(0, 1).permute(1, 2, 0).numpy()
    return pixels


def _choose(data: Sequence[Path] | Path, rows: int, seed: int) -> list[Path]:
    """List the files that are meant."""
    paths = [Path(data)] if isinstance(data, str | Path) else [Path(path) for path in data]
    if len(paths) == 1 and not paths[0].is_file():
        found = find_images("data", paths[0], "test")
        chosen = np.random.default_rng(seed).permutation(len(found))[:rows]
        return [found[index] for index in sorted(chosen)]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        msg = f"data: there is no image '{missing[0]}'." if missing else "data: no images were given."
        raise FileNotFoundError(msg)
    return paths


def _load(ckpt_path: Path, passes: int | None) -> SSM:
    """Load a model in evaluation mode, on the GPU if there is one."""
    if not ckpt_path.is_file():
        msg = f"ckpt_path: there is no file '{ckpt_path}'."
        raise FileNotFoundError(msg)
    changes: dict[str, Any] = {} if passes is None else {"refinement_passes": passes}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model = cast(SSM, SSM.load_from_checkpoint(ckpt_path, map_location=device, **changes))
    # Whatever a file that is something else, or belongs to another model, fails with.
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        msg = f"ckpt_path: '{ckpt_path}' is no checkpoint of SSM: {str(error).strip().partition(chr(10))[0]}"
        raise ValueError(msg) from error
    if not model.model.is_fitted:
        msg = f"ckpt_path: '{ckpt_path}' was written while a run broke off, and is not for scoring: train on from it."
        raise ValueError(msg)
    return model.eval()


def _read(path: Path, model: SSM) -> torch.Tensor:
    """Read an image and pre-process it as the model does: shape (3, H, W), on the model's device."""
    try:
        image = torch.as_tensor(read_image(path, as_tensor=True))
    except OSError as error:
        msg = f"data: '{path}' is no image that can be read."
        raise ValueError(msg) from error
    batch: torch.Tensor = image.unsqueeze(0)
    if model.pre_processor is not None:
        batch = model.pre_processor(batch)
    model.model.refinement.check_images(batch)
    return batch[0].to(model.device)


def _to_host(recorded: RefinementPass) -> RefinementPass:
    """Copy a pass to the CPU."""
    return RefinementPass(**{name: value.cpu() for name, value in vars(recorded).items()})
