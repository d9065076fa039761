# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How fast blended patches are: the batched ways, and OpenCV's ``seamlessClone`` of the same patches one by one.

Run as ``python benchmarks/blending.py --out result.json``; the method is in benchmarks/README.md.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from harness.machine import default_devices
from harness.measure import Competitor, Timing, measure, synchronizer
from harness.photographs import photograph
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli

from anomalib_ssl.augmentations import BlendedPatch
from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.blended_patch.geometry import patches_of, place

WAYS = {
    "poisson": {},
    "poisson, mixed gradients": {"gradients": "mixed"},
    "soft": {"blend": "soft"},
    "hard": {"blend": "hard"},
}

CLONES = {"source": cv2.NORMAL_CLONE, "mixed": cv2.MIXED_CLONE}
"""What OpenCV calls the gradients that are kept."""

COLUMNS = (
    Column("name", "way"),
    Column("images_per_second", "images/s", ",.0f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x seamlessClone", ".2f"),
    Column("difference", "mean difference from it", ".2f"),
)


def benchmark(
    batch_size: int = 32,
    image_size: int = 256,
    patches: int = 1,
    repeats: int = 5,
    min_seconds: float = 0.5,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time all ways with the patches of one draw, resizing included.

    Args:
        batch_size: Images per call.
        image_size: Side of the images in pixels.
        patches: Most patches per image.
        repeats: Turns of each way.
        min_seconds: Least duration of a turn.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds. Differences from what OpenCV makes with the same gradients are means over the patches'
        pixels, in grey levels of 255; its speed is that with the source's.
    """
    arguments = dict(locals())
    cv2.setNumThreads(torch.get_num_threads())
    rng = np.random.default_rng(0)
    photographs = np.stack([photograph(image_size, rng) for _ in range(batch_size)])
    images = torch.from_numpy(photographs).permute(0, 3, 1, 2).contiguous()
    parameters = BlendedPatch(patches=patches).sample(images.shape, generator=torch.Generator().manual_seed(0))
    cloned = {name: torch.from_numpy(clone(photographs, parameters, flag)) for name, flag in CLONES.items()}
    tables = []
    for device in default_devices():
        table = Table(f"{device}, {batch_size} images of {image_size}x{image_size}", COLUMNS)
        competitors = {"seamlessClone": (lambda: clone(photographs, parameters), 0.0)}
        for name, settings in WAYS.items():
            augment = BlendedPatch(patches=patches, **settings)
            blended, masks = augment.apply(images, parameters)
            inside = masks.expand_as(images)
            expected = cloned[augment.gradients].permute(0, 3, 1, 2)
            difference = (blended.float() - expected.float()).abs()[inside].mean().item()
            for kind, given in (("uint8", images), ("float32", images / 255)):
                there = given.to(device)
                call = lambda augment=augment, there=there: augment.apply(there, parameters)  # noqa: E731
                competitors[f"{name}, {kind}"] = (call, difference)
        timings = measure(
            [Competitor(name, call) for name, (call, _) in competitors.items()],
            repeats,
            min_seconds,
            synchronizer(device),
        )
        reference = timings["seamlessClone"].median
        for name, timing in timings.items():
            values = {}
            if isinstance(timing, Timing):
                values = {"images_per_second": batch_size / timing.median, "ratio": reference / timing.median}
            table.add(name, timing, **values, difference=competitors[name][1])
        tables.append(table)
        show(table)
    return save("blending", arguments, tables, out, markdown)


def clone(images: np.ndarray, parameters: Parameters, flag: int = cv2.NORMAL_CLONE) -> np.ndarray:
    """Blend the same patches into copies of images (B, H, W, C) by ``seamlessClone``, one by one."""
    result = images.copy()
    shape = (len(images), images.shape[3], *images.shape[1:3])
    for number in range(parameters["used"].shape[1]):
        rows = parameters["used"][:, number].nonzero().flatten()
        patch = patches_of(parameters, number, rows, torch.device("cpu"))
        patch |= place(patch, shape, None, (0, 0))
        names = ("source_image", "source_top", "source_left", "top", "left", "height", "width", "factor")
        for row, *geometry in zip(rows.tolist(), *(patch[name].tolist() for name in names), strict=True):
            source, source_top, source_left, top, left, height, width, factor = geometry
            tall, wide = max(round(height / factor), 1), max(round(width / factor), 1)
            cut = images[source][source_top : source_top + tall, source_left : source_left + wide]
            cut = cv2.resize(cut, (width, height))
            # A new mask each time: OpenCV erodes it in place.
            mask = np.full((height, width), 255, np.uint8)
            center = (left + width // 2, top + height // 2)
            result[row] = cv2.seamlessClone(cut, result[row], mask, center, flag)
    return result


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
