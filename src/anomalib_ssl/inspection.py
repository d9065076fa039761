# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a model shows of its inside, and how it is drawn: titled columns of pictures, a row for each image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

HIGHLIGHT = (1.0, 0.45, 0.1)
"""sRGB colour of regions."""

PANEL, HEAD, GAP, FOOT = 2.0, 0.32, 0.06, 0.2
"""Width of a picture, and heights of titles, of the space between pictures and of captions, in inches."""

OPACITY = 0.7
"""How much of the image the largest value of a map covers."""


@dataclass(frozen=True)
class Column:
    """A picture for each image.

    Attributes:
        title: What they show. Colours of maps mean the same in all columns of one title.
        pictures: Images (B, 3, H, W), values in [0, 1], or maps (B, 1, H, W) of any values.
        captions: Texts to be written below them.
        over: Images (B, 3, H, W) that maps lie over.
        outlined: Regions (B, 1, H, W), 1 inside and 0 outside, around which a line is drawn.
    """

    title: str
    pictures: torch.Tensor
    captions: Sequence[str] = ()
    over: torch.Tensor | None = None
    outlined: torch.Tensor | None = None


@dataclass(frozen=True)
class Inspection:
    """What a model does inside.

    Attributes:
        columns: Pictures, those of the images themselves first.
        numbers: Rows of a table, values by heading.
        note: What the numbers mean.
    """

    columns: Sequence[Column]
    numbers: Sequence[Mapping[str, float | str]]
    note: str = ""


def scored_map(images: torch.Tensor, scored: Any, title: str = "map") -> Column:
    """Lay the maps of an ``InferenceBatch`` over its images (B, 3, H, W), with the scores below."""
    return Column(title, scored.anomaly_map, captions("score", scored.pred_score), over=images)


def inspect_candidates(model: Any, images: torch.Tensor) -> Inspection:
    """Show the heat maps of all candidates of a model's scorer side by side, and how well planted defects were told.

    Args:
        model: One of this package's models, in its ``scoring_mode``.
        images: Shape (B, 3, H, W), values in [0, 1], on the model's device.

    Raises:
        ValueError: If the model makes scores in one way only.
    """
    scorer = getattr(model.model, "scorer", None)
    if scorer is None:
        msg = f"candidates are what a model's scorer chooses from; {type(model).__name__} scores in one way."
        raise ValueError(msg)
    score, heat_map = scorer.chosen
    maps = scorer.candidates(model.model.exposure(images), model.model.evidence)
    if heat_map not in maps:  # several that are joined
        maps[heat_map] = model.model(images).anomaly_map
    columns = [
        Column(f"{name} (in use)" if name == heat_map else name, each, over=images) for name, each in maps.items()
    ]
    names = dict.fromkeys([*scorer.score_names, score]), dict.fromkeys([*scorer.map_names, heat_map])
    judged = [("score", name, score, scorer.judged_scores.get(name)) for name in names[0]]
    judged += [("heat map", name, heat_map, scorer.judged_maps.get(name)) for name in names[1]]
    numbers = [
        {
            "of": kind,
            "candidate": name,
            "AUROC on planted defects": "" if auroc is None else f"{auroc:.3f}",
            "in use": "yes" if name == chosen else "",
        }
        for kind, name, chosen, auroc in judged
    ]
    return Inspection([Column("input", images), *columns], numbers)


def captions(name: str, values: torch.Tensor) -> list[str]:
    """Write a value (B,) of each image with its name."""
    return [f"{name} {value:.4g}" for value in values.tolist()]


def draw(columns: Sequence[Column]) -> Figure:
    """Draw columns of pictures, titles above and captions below.

    Args:
        columns: All of equally many images; the first one decides the shape of the panels.

    Returns:
        The figure. To be saved without metadata, so that the file's bytes say what was drawn and nothing else.

    Example:
        >>> images = torch.rand(2, 3, 8, 8)
        >>> len(draw([Column("input", images), Column("map", images[:, :1], ["a", "b"])]).axes)
        4
    """
    rows, _, *size = columns[0].pictures.shape
    panel = PANEL * size[0] / size[1]
    pitch = panel + (FOOT if any(column.captions for column in columns) else 0)
    width, height = len(columns) * PANEL + GAP, rows * pitch + HEAD + GAP
    figure = Figure(figsize=(width, height), dpi=110, facecolor="white")
    for across, column in enumerate(columns):
        for down, pixels in enumerate(_pixels(column, columns)):
            left, top = across * PANEL + GAP, HEAD + GAP + down * pitch
            box = (left / width, 1 - (top + panel - GAP) / height, (PANEL - GAP) / width, (panel - GAP) / height)
            axes: Axes = figure.add_axes(box)
            axes.imshow(pixels, interpolation="antialiased")
            axes.set_axis_off()
            if column.outlined is not None:
                _outline(axes, column.outlined[down, 0].float())
            if down == 0:
                axes.set_title(column.title, fontsize=11, color="0.1", pad=5)
            if column.captions:
                # Names of files may hold what would be taken for a formula.
                style: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 8, "color": "0.35"}
                axes.text(0.5, -0.02, column.captions[down], transform=axes.transAxes, parse_math=False, **style)
    return figure


def _pixels(column: Column, columns: Sequence[Column]) -> npt.NDArray[Any]:
    """Colours (B, H, W, 3) of a column's pictures."""
    pictures = column.pictures.detach().float().cpu().movedim(1, -1)
    if pictures.shape[-1] == 3:
        return pictures.clamp(0, 1).numpy()
    low, high = torch.cat([one.pictures.flatten() for one in columns if one.title == column.title]).float().aminmax()
    shares = ((pictures - low.cpu()) / (high - low).clamp(min=1e-12).cpu()).numpy()
    colours: npt.NDArray[Any] = mpl.colormaps["inferno"](shares[..., 0])[..., :3]
    if column.over is None:
        return colours
    grey = column.over.float().clamp(0, 1).mean(dim=1).unsqueeze(-1).cpu().numpy()
    return (1 - OPACITY * shares) * grey + OPACITY * shares * colours


def _outline(axes: Axes, region: torch.Tensor) -> None:
    if region.min() < region.max():
        axes.contour(region.cpu().numpy(), levels=[0.5], colors=[HIGHLIGHT], linewidths=1.2)
