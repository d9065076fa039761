# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Test images beside the outlines of their defects and the anomaly maps of all contenders."""

import base64
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy.stats import mannwhitneyu

from anomalib_ssl.comparison.store import read_pictures
from anomalib_ssl.report.contenders import Contender
from anomalib_ssl.report.reading import Result

logger = logging.getLogger(__name__)

OUTLINE = (25, 115, 255)
"""Colour around defects: blue, green, red, as OpenCV has them."""

RAREST = 1e-3
"""Share of a category's pixels that has the brightest colour."""

LONGEST = 2**15 - 1
"""Longest side that OpenCV resizes."""

Array = npt.NDArray[Any]
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A test image with what all contenders make of it. Pictures are those of OpenCV (H, W, 3): blue, green, red.

    Args:
        kind: Why it is shown.
        name: Folder and file of the image.
        image: Its pixels.
        mask: The same with its defect outlined; None without masks.
        maps: Heat map over the image for each contender.
        scores: Normalised image score of each contender; above 0.5 it calls the image anomalous.
    """

    kind: str
    name: str
    image: Array
    mask: Array | None
    maps: tuple[Array, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Gallery:
    """The cases of a category, and the contenders whose maps they show."""

    category: str
    contenders: tuple[Contender, ...]
    cases: tuple[Case, ...]


def galleries(contenders: Sequence[Contender], categories: Sequence[str], count: int = 2) -> list[Gallery]:
    """Choose cases of each category for which maps were kept; files that are damaged are left out with a warning.

    The best and the worst cases are those in which the contenders' maps tell the pixels of the defect from the others
    of the same image best and worst on average (area under the receiver operating characteristic; without masks, by
    image scores). A sound image is added, the one with the highest scores. Maps are those of the first seed.

    Args:
        contenders: Whose maps.
        categories: Categories in their order.
        count: Number of best and of worst cases.
    """
    found = []
    for category in categories if count else ():
        kept = [_kept(contender, category) for contender in contenders]
        shared = _read([result.images for each in kept for result in each], _images)
        jobs = [_read([result.maps for result in each], _aligned, shared) if shared else None for each in kept]
        shown = tuple(contender for contender, job in zip(contenders, jobs, strict=True) if job)
        if shared and shown:
            found.append(Gallery(category, shown, _cases(shared, [job for job in jobs if job], count)))
    return found


def separation(anomaly_map: Array, mask: Array) -> float:
    """Area under the receiver operating characteristic of the pixels of one image.

    Args:
        anomaly_map: Scores of pixels (H, W).
        mask: The defect (H, W); neither empty nor everything.
    """
    inside, outside = anomaly_map[mask], anomaly_map[~mask]
    return float(mannwhitneyu(inside, outside, method="asymptotic").statistic) / (inside.size * outside.size)


def rarity(values: Array, ordered: Array) -> Array:
    """How rare values as high as these are, on a logarithmic scale: 0 for the lowest, 1 for the highest thousandth.

    Like the area under the receiver operating characteristic it sees ranks alone, so a model whose few highest values
    are far above all others shows as much as one whose values are even.

    Args:
        values: Any shape.
        ordered: All values, sorted.
    """
    below = (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")) / 2
    return np.log(np.maximum(1 - below / ordered.size, RAREST)) / np.log(RAREST)


def jpeg(pixels: Array) -> str:
    """Write an image as a data URL."""
    _, content = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _kept(contender: Contender, category: str) -> list[Result]:
    """Results whose maps were kept, the lowest seed first."""
    results = [result for result in contender.results if (result.row.category or "") == category]
    kept = [result for result in results if result.maps.is_file() and result.images.is_file()]
    return sorted(kept, key=lambda result: result.row.seed)


def _read(paths: Iterable[Path], check: Callable[..., Arrays], *arguments: Any) -> Arrays | None:
    """Read the first file that is not damaged."""
    for path in dict.fromkeys(paths):
        try:
            return check(read_pictures(path), *arguments)
        except Exception as error:  # noqa: BLE001, PERF203  # zipfile, zlib and NumPy raise whatever they meet first
            logger.warning("%s is left out of the gallery: %s", path, error)
    return None


def _images(arrays: Arrays) -> Arrays:
    """Check the images of a category."""
    names = _array(arrays, "names", "U", None).tolist()
    images = _array(arrays, "images", "B", len(names), None, None, 3)
    return {
        "names": names,
        "labels": _array(arrays, "labels", "?", len(names)),
        "images": np.ascontiguousarray(images[..., ::-1]),
        "masks": _array(arrays, "masks", "?", len(names), None, None) if "masks" in arrays else None,
    }


def _aligned(arrays: Arrays, shared: Arrays) -> Arrays:
    """Check maps and scores of a job, and put them in the order of the shared images."""
    names = _array(arrays, "names", "U", None).tolist()
    places = {name: place for place, name in enumerate(names)}
    missing = [name for name in shared["names"] if name not in places]
    if missing:
        msg = f"it has no map of {missing[0]!r}."
        raise ValueError(msg)
    # Names may repeat in folders of folders; then the usual order, the same for all, tells them apart.
    order = list(range(len(names))) if names == shared["names"] else [places[name] for name in shared["names"]]
    side = (None, None) if shared["masks"] is None else shared["masks"].shape[1:]
    maps = _array(arrays, "maps", "BHefd", len(names), *side)
    return {"maps": maps[order], "scores": _array(arrays, "scores", "fd", len(names))[order]}


def _array(arrays: Arrays, name: str, kinds: str, *shape: int | None) -> Array:
    """Look up an array of one of these types (NumPy's characters) and of this shape, in which None is any length."""
    array = arrays.get(name, np.array(None))
    sides = zip(array.shape, shape, strict=False)
    fits = array.dtype.char in kinds and array.ndim == len(shape)
    fits = fits and all(0 < side <= LONGEST and want in (None, side) for side, want in sides)
    if not fits or (array.dtype.kind == "f" and not np.isfinite(array).all()):
        msg = f"{name!r} must be an array of shape {shape} and finite values, got {array.dtype} {array.shape}."
        raise ValueError(msg)
    return array


def _cases(shared: Arrays, jobs: Sequence[Arrays], count: int) -> tuple[Case, ...]:
    ordered = [np.sort(job["maps"], axis=None) for job in jobs]
    return tuple(
        Case(
            kind=kind,
            name=shared["names"][index],
            image=image,
            mask=None if shared["masks"] is None else outlined(image, shared["masks"][index]),
            maps=tuple(heat(image, rarity(job["maps"][index], all_)) for job, all_ in zip(jobs, ordered, strict=True)),
            scores=tuple(float(job["scores"][index]) for job in jobs),
        )
        for kind, index in _choose(shared, jobs, count)
        for image in [shared["images"][index]]
    )


def _choose(shared: Arrays, jobs: Sequence[Arrays], count: int) -> list[tuple[str, int]]:
    labels, masks = shared["labels"], shared["masks"]
    scores = np.mean([job["scores"] for job in jobs], axis=0)
    defective = np.flatnonzero(labels)
    quality = scores[defective]
    if masks is not None:
        defective = np.array([index for index in defective if 0 < masks[index].mean() < 1], dtype=int)
        quality = np.array(
            [np.mean([separation(job["maps"][index], masks[index]) for job in jobs]) for index in defective]
        )
    order = defective[np.argsort(quality, kind="stable")].tolist()
    count = min(count, max(len(order) // 2, 1))
    best, worst = order[::-1][:count], order[:count]
    chosen = [("best", index) for index in best] + [("worst", index) for index in worst if index not in best]
    sound = np.flatnonzero(~labels)
    return [*chosen, ("sound", int(sound[scores[sound].argmax()]))] if sound.size else chosen


def outlined(image: Array, mask: Array) -> Array:
    """Draw a line around the defect (H, W) on the grey image (h, w, 3)."""
    resized = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(resized, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(_grey(image), contours, -1, OUTLINE)


def heat(image: Array, values: Array) -> Array:
    """Lay the colours of values (H, W) in [0, 1] over the grey image (h, w, 3)."""
    resized = cv2.resize(values, image.shape[1::-1])
    colours = cv2.applyColorMap((255 * resized).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return cv2.addWeighted(_grey(image), 0.25, colours, 0.75, 0)


def _grey(image: Array) -> Array:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
