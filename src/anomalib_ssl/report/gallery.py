# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Test images beside the masks of their defects and the anomaly maps of all contenders."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from PIL import Image
from scipy.stats import rankdata

from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import read_pictures
from anomalib_ssl.report.contenders import Contender

COLOURS = "inferno"
HIGHLIGHT = (1.0, 0.45, 0.1)
"""sRGB colour of masks."""

RAREST = 1e-3
"""Share of a category's pixels that has the brightest colour."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A test image with what all contenders make of it.

    Args:
        kind: Why it is shown.
        name: Folder and file of the image.
        image: Pixels (H, W, 3).
        mask: The same with its defect marked; None without masks.
        maps: Heat map over the image for each contender (H, W, 3); None where a contender has none.
        scores: Normalised image score of each contender; above 0.5 it calls the image anomalous.
    """

    kind: str
    name: str
    image: Pixels
    mask: Pixels | None
    maps: tuple[Pixels | None, ...]
    scores: tuple[float | None, ...]


@dataclass(frozen=True)
class Gallery:
    """The cases of a category, and the contenders whose maps they show."""

    category: str
    contenders: tuple[Contender, ...]
    cases: tuple[Case, ...]


def galleries(contenders: Sequence[Contender], categories: Sequence[str], count: int = 2) -> list[Gallery]:
    """Choose cases of each category for which maps were kept.

    The best and the worst cases are those in which the contenders' maps tell the pixels of the defect from the others
    of the same image best and worst on average (area under the receiver operating characteristic; without masks, by
    image scores). A sound image is added, the one with the highest scores. Maps are those of the first seed.

    Args:
        contenders: Whose maps.
        categories: Categories in their order.
        count: Number of best and of worst cases.
    """
    found = []
    for category in categories:
        rows = [_first(contender, category) for contender in contenders]
        jobs = [
            None if row is None else _arrays(contender, row) for contender, row in zip(contenders, rows, strict=True)
        ]
        shared = next((_images(contender, row) for contender, row in zip(contenders, rows, strict=True) if row), None)
        shown = [(contender, job) for contender, job in zip(contenders, jobs, strict=True) if job is not None]
        if shared is None or not shown or not count:
            continue
        chosen = _choose(shared, [job for _, job in shown], count)
        ordered = [np.sort(job["maps"], axis=None) for _, job in shown]
        cases = tuple(_case(kind, index, shared, [job for _, job in shown], ordered) for kind, index in chosen)
        found.append(Gallery(category, tuple(contender for contender, _ in shown), cases))
    return found


def separation(anomaly_map: npt.NDArray[Any], mask: npt.NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic of the pixels of one image.

    Args:
        anomaly_map: Scores of pixels (H, W).
        mask: The defect (H, W); neither empty nor everything.
    """
    ranks = rankdata(anomaly_map.ravel())
    positive = int(mask.sum())
    excess = float(ranks[mask.ravel()].sum()) - positive * (positive + 1) / 2
    return excess / (positive * (mask.size - positive))


def rarity(values: npt.NDArray[Any], ordered: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How rare values as high as these are, on a logarithmic scale: 0 for the lowest, 1 for the highest thousandth.

    Like the area under the receiver operating characteristic it sees ranks alone, so a model whose few highest values
    are far above all others shows as much as one whose values are even.

    Args:
        values: Any shape.
        ordered: All values, sorted.
    """
    below = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return np.log(np.maximum(1 - below / ordered.size, RAREST)) / np.log(RAREST)


def jpeg(pixels: Pixels) -> str:
    """Write an image as a data URL."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _choose(shared: Mapping[str, Any], jobs: Sequence[Mapping[str, Any]], count: int) -> list[tuple[str, int]]:
    labels, masks = shared["labels"], shared.get("masks")
    scores = np.mean([job["scores"] for job in jobs], axis=0)
    defective = np.flatnonzero(labels)
    if masks is not None:
        defective = np.array([index for index in defective if 0 < masks[index].mean() < 1], dtype=int)
        quality = [np.mean([separation(job["maps"][index], masks[index]) for job in jobs]) for index in defective]
    else:
        quality = [scores[index] for index in defective]
    order = [int(index) for index in defective[np.argsort(quality, kind="stable")]]
    count = min(count, max(len(order) // 2, 1))
    best, worst = order[::-1][:count], order[:count]
    chosen = [("best", index) for index in best] + [("worst", index) for index in worst if index not in best]
    sound = np.flatnonzero(~labels.astype(bool))
    return [*chosen, ("sound", int(sound[scores[sound].argmax()]))] if sound.size else chosen


def _case(
    kind: str,
    index: int,
    shared: Mapping[str, Any],
    jobs: Sequence[Mapping[str, Any]],
    ordered: Sequence[npt.NDArray[Any]],
) -> Case:
    image = shared["images"][index]
    masks = shared.get("masks")
    return Case(
        kind=kind,
        name=str(shared["names"][index]),
        image=image,
        mask=None if masks is None else _marked(image, masks[index]),
        maps=tuple(_heat(image, rarity(job["maps"][index], values)) for job, values in zip(jobs, ordered, strict=True)),
        scores=tuple(float(job["scores"][index]) for job in jobs),
    )


def _grey(image: Pixels) -> npt.NDArray[np.float64]:
    return image.mean(axis=-1, keepdims=True).repeat(3, axis=-1) / 255


def _marked(image: Pixels, mask: npt.NDArray[np.bool_]) -> Pixels:
    """Fade the image to grey and paint the defect over it."""
    grey = _grey(image)
    painted = np.asarray(HIGHLIGHT) * (0.6 + 0.4 * grey)
    return _bytes(np.where(_resized(mask, image)[..., None] > 0.5, painted, 0.2 + 0.5 * grey))


def _heat(image: Pixels, values: npt.NDArray[np.float64]) -> Pixels:
    """Lay the colours of values in [0, 1] over the grey image."""
    colours = colormaps[COLOURS](_resized(values, image))[..., :3]
    return _bytes(0.25 * _grey(image) + 0.75 * colours)


def _resized(values: npt.NDArray[Any], image: Pixels) -> npt.NDArray[np.float32]:
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize(image.shape[1::-1], Image.Resampling.BILINEAR))


def _bytes(values: npt.NDArray[np.float64]) -> Pixels:
    return (255 * values.clip(0, 1)).round().astype(np.uint8)


def _first(contender: Contender, category: str) -> Row | None:
    """The row of the lowest seed whose maps were kept."""
    for row in sorted(contender.rows, key=lambda row: row.seed):
        if (row.category or "") == category and (contender.pictures[row.job] / f"{row.job}.npz").is_file():
            return row
    return None


def _arrays(contender: Contender, row: Row) -> dict[str, npt.NDArray[Any]] | None:
    """Maps and scores in the order of the shared images; None if they are of other images."""
    images, arrays = _images(contender, row), read_pictures(contender.pictures[row.job] / f"{row.job}.npz")
    if images is None:
        return None
    places = {str(name): place for place, name in enumerate(arrays["names"])}
    if not {str(name) for name in images["names"]} <= set(places):
        return None
    order = [places[str(name)] for name in images["names"]]
    return {"maps": arrays["maps"][order], "scores": arrays["scores"][order]}


def _images(contender: Contender, row: Row) -> dict[str, npt.NDArray[Any]] | None:
    name = "-".join(part for part in (row.dataset, row.category) if part)
    path = contender.pictures[row.job] / f"{name}.images.npz"
    return read_pictures(path) if path.is_file() else None
