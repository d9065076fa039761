# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Ways to score all windows of an image with CutPaste's patch model: how fast, and how well.

Run as ``python benchmarks/patch_scoring.py`` for the speed of an untrained network, and with ``--ckpt_path model.ckpt
--root datasets/MVTecAD --category bottle`` for the scores of a trained one too.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data import MVTecAD
from harness.machine import default_devices
from harness.measure import Competitor, Timing, measure, synchronizer
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from torchmetrics.classification import BinaryAUROC

from anomalib_ssl import CutPastePatch
from anomalib_ssl.models.cutpaste import CutPastePatchModel

OWN = {"score": "windows_max", "heat_map": "windows"}
"""The published score and map, of the windows alone."""

REFERENCE = "windows, stride 4, float32"
WAYS: dict[str, dict[str, Any]] = {
    REFERENCE: {"dense": "windows", "stride": 4},
    "windows, stride 4, bfloat16": {"dense": "windows", "stride": 4},
    "windows, stride 8, float32": {"dense": "windows", "stride": 8},
    "windows, stride 8, bfloat16": {"dense": "windows", "stride": 8},
    "windows, stride 16, bfloat16": {"dense": "windows", "stride": 16},
    "convolutional, stride 4, float32": {"dense": "convolutional", "stride": 4},
    "convolutional, stride 8, float32": {"dense": "convolutional", "stride": 8},
    "convolutional, stride 8, bfloat16": {"dense": "convolutional", "stride": 8},
    "convolutional, stride 16, float32": {"dense": "convolutional", "stride": 16},
}
"""Arguments of the patch model; of the ways in bfloat16 the features alone are computed so."""

SPEED = (
    Column("name", "way"),
    Column("images_per_second", "images/s", ",.2f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x reference", ".1f"),
)
SCORES = (
    Column("name", "way"),
    Column("image", "image AUROC", ".1f"),
    Column("pixel", "pixel AUROC", ".1f"),
)


def benchmark(
    backbone: str = "resnet18",
    image_size: int = 256,
    window_size: int = 32,
    batch_size: int = 2,
    ways: Sequence[str] = tuple(WAYS),
    devices: Sequence[str] | None = None,
    repeats: int = 3,
    ckpt_path: Path | None = None,
    root: Path | None = None,
    category: str | None = None,
    per_location: bool = False,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time all ways on one device after the other, and score a category with each.

    Args:
        backbone: Name of a timm network.
        image_size: Side of the images in pixels.
        window_size: Side of a window in pixels.
        batch_size: Images per call.
        ways: Which ways; everything by default.
        devices: ``cpu``, ``cuda``; what is there by default.
        repeats: Turns of each way.
        ckpt_path: Checkpoint of a CutPastePatch, whose density is fitted anew for each way.
        root: Folder of a data set in the layout of MVTec AD.
        category: Category of that data set.
        per_location: Whether each location has a density of its own in the scores.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    tables = []
    for device in devices or default_devices():
        tables.append(_time(backbone, image_size, window_size, batch_size, ways, device, repeats))
        show(tables[-1])
    if ckpt_path is not None and root is not None and category is not None:
        tables.append(_score(ckpt_path, root, category, window_size, per_location, ways))
        show(tables[-1])
    return save("patch_scoring", arguments, tables, out, markdown)


def _time(
    backbone: str, image_size: int, window_size: int, batch_size: int, ways: Sequence[str], device: str, repeats: int
) -> Table:
    images = torch.rand(batch_size, 3, image_size, image_size, device=device)
    competitors = []
    for way in ways:
        model = CutPastePatchModel((image_size, image_size), backbone, window_size=window_size, **OWN, **WAYS[way])
        _set_precision(model, way, device)
        model.to(device).eval().fit([images[:2].repeat(2, 1, 1, 1)])
        competitors.append(Competitor(way, torch.inference_mode()(lambda model=model: model(images)), warmup=1))
    timings = measure(competitors, repeats, 0.2, synchronizer(device))
    title = f"{backbone}, {batch_size} images of {image_size}x{image_size}, windows of {window_size}: {device}"
    table = Table(title, SPEED)
    reference = timings[ways[0]]
    for way, timing in timings.items():
        values = {}
        if isinstance(timing, Timing) and isinstance(reference, Timing):
            values = {"images_per_second": batch_size / timing.median, "ratio": reference.median / timing.median}
        table.add(way, timing, **values)
    return table


def _score(
    ckpt_path: Path, root: Path, category: str, window_size: int, per_location: bool, ways: Sequence[str]
) -> Table:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    table = Table(f"{category}: one network, its density fitted anew", SCORES)
    datamodule = MVTecAD(root=root, category=category, num_workers=0)
    datamodule.prepare_data()
    datamodule.setup()
    trained = CutPastePatch.load_from_checkpoint(ckpt_path, map_location="cpu")
    for way in ways:
        settings = {"window_size": window_size, "per_location": per_location, "pre_trained": False, **OWN, **WAYS[way]}
        model = CutPastePatch(**{**trained.hparams, "visualizer": False, **settings}).eval()
        model.model.backbone.load_state_dict(trained.model.backbone.state_dict())
        _set_precision(model.model, way, "cpu")
        table.rows.append({"name": way, **_auroc(model, datamodule)})
    return table


def _set_precision(model: CutPastePatchModel, way: str, device: str) -> None:
    if way.endswith("bfloat16"):
        half = torch.autocast(device, torch.bfloat16)
        model.window_features = half(model.window_features)


@torch.inference_mode()
def _auroc(model: CutPastePatch, datamodule: MVTecAD) -> dict[str, float]:
    """Fit the density and score the test images."""
    network, transform = model.model, model.pre_processor.transform
    network.fit([transform(batch.image) for batch in datamodule.train_dataloader()])
    auroc = {name: BinaryAUROC() for name in ("image", "pixel")}
    for batch in datamodule.test_dataloader():
        images, labels, masks = transform(batch.image), batch.gt_label, transform(batch.gt_mask.unsqueeze(1)) > 0
        scored = network(images)
        auroc["pixel"].update(scored.anomaly_map.double().sigmoid().flatten(), masks.flatten())
        auroc["image"].update(scored.pred_score.double().sigmoid(), labels)
    return {name: 100 * metric.compute().item() for name, metric in auroc.items()}


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
