# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How many images a second models score, beside anomalib's PaDiM and PatchCore in the same run.

Run as ``python benchmarks/model_speed.py``. Weights are random and images noise: neither changes what is computed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.models.image.patchcore.torch_model import PatchcoreModel
from harness.machine import default_devices
from harness.measure import Competitor, Timing, measure, synchronizer
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from torch import nn

from anomalib_ssl.models.autoencoder_projection import AutoencoderProjectionModel
from anomalib_ssl.models.cutpaste import CutPasteModel
from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentationModel

REFERENCE = "PatchCore, wide_resnet50_2"
COLUMNS = (
    Column("name", "model"),
    Column("parameters", "parameters, M", ".1f"),
    Column("images_per_second", "images/s", ",.2f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x PatchCore", ".2f"),
)


def benchmark(
    image_size: int = 256,
    batch_size: int = 4,
    bank_images: int = 200,
    patchcore_backbone: str = "wide_resnet50_2",
    widths: tuple[int, int, int] = (32, 64, 128),
    devices: Sequence[str] | None = None,
    repeats: int = 3,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time the scoring of a batch, maps included, on one device after the other.

    Args:
        image_size: Side of the images in pixels.
        batch_size: Images per call.
        bank_images: Number of training images whose features PatchCore's memory holds a tenth of, anomalib's default.
        patchcore_backbone: PatchCore's network; anomalib's default is ``wide_resnet50_2``.
        widths: Channels of the autoencoder's levels.
        devices: ``cpu``, ``cuda``; what is there by default.
        repeats: Turns of each model.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    builders: dict[str, Callable[[], nn.Module]] = {
        REFERENCE.replace("wide_resnet50_2", patchcore_backbone): partial(
            patchcore, patchcore_backbone, bank_images, image_size
        ),
        "PaDiM, resnet18": partial(padim, image_size),
        "CutPaste, resnet18": partial(cutpaste, image_size),
        "DynamicLocalAugmentation, resnet18, 10 passes": partial(dynamic_local_augmentation, image_size, (1.0, 0.1)),
        "DynamicLocalAugmentation, no uncertainty": partial(dynamic_local_augmentation, image_size, (1.0, 0.0)),
        "AutoencoderProjection": partial(autoencoder_projection, image_size, widths),
    }
    tables = []
    for device in devices or default_devices():
        tables.append(_time(builders, image_size, batch_size, device, repeats))
        show(tables[-1])
    return save("model_speed", arguments, tables, out, markdown)


def patchcore(backbone: str, bank_images: int, image_size: int) -> nn.Module:
    """PatchCore with a memory bank of the size that anomalib's default share of a tenth leaves."""
    model = PatchcoreModel(("layer2", "layer3"), backbone, pre_trained=False)
    with torch.no_grad():
        features = model.train()(torch.rand(1, 3, image_size, image_size))
    model.embedding_store.clear()
    model.memory_bank = torch.rand(bank_images * len(features) // 10, features.shape[1])
    return model


def padim(image_size: int) -> nn.Module:
    """PaDiM with anomalib's defaults."""
    model = PadimModel(pre_trained=False)
    with torch.no_grad():
        _, width, rows, columns = model.train()(torch.rand(1, 3, image_size, image_size)).shape
    model.memory_bank = []
    model.gaussian.mean = torch.rand(width, rows * columns)
    model.gaussian.inv_covariance = torch.eye(width).repeat(rows * columns, 1, 1)
    return model


def cutpaste(image_size: int) -> nn.Module:
    """CutPaste with a fitted density."""
    model = CutPasteModel().eval()
    with torch.no_grad():
        model.fit([torch.rand(4, 3, image_size, image_size)])
    return model


def autoencoder_projection(image_size: int, widths: tuple[int, int, int]) -> nn.Module:
    """AutoencoderProjection with its default score, fitted."""
    model = AutoencoderProjectionModel(
        (image_size, image_size), error_normalization="input", map_statistics="standardize", widths=widths
    ).eval()
    model.fit([torch.rand(2, 3, image_size, image_size)])
    return model


def dynamic_local_augmentation(image_size: int, alphas: tuple[float, float]) -> nn.Module:
    """DynamicLocalAugmentation with fitted means, with or without the passes for uncertainty."""
    model = DynamicLocalAugmentationModel((image_size, image_size), alphas=alphas).eval()
    with torch.no_grad():
        model.fit([torch.rand(4, 3, image_size, image_size)])
    return model


def _time(
    builders: dict[str, Callable[[], nn.Module]], image_size: int, batch_size: int, device: str, repeats: int
) -> Table:
    images = torch.rand(batch_size, 3, image_size, image_size, device=device)
    models = {name: build().to(device).eval() for name, build in builders.items()}
    competitors = []
    for name, model in models.items():
        competitors.append(Competitor(name, torch.inference_mode()(partial(model, images)), warmup=1))
    own = models["AutoencoderProjection"]
    half = torch.autocast(torch.device(device).type, torch.bfloat16)
    competitors.append(
        Competitor("AutoencoderProjection, bfloat16", torch.inference_mode()(half(partial(own, images))), warmup=1)
    )
    timings = measure(competitors, repeats, 0.5, synchronizer(device))
    table = Table(f"{batch_size} images of {image_size}x{image_size}: {device}", COLUMNS)
    reference = timings[next(iter(builders))]
    for name, timing in timings.items():
        model = models[name.removesuffix(", bfloat16")]
        values: dict[str, Any] = {"parameters": sum(parameter.numel() for parameter in model.parameters()) / 1e6}
        if isinstance(timing, Timing) and isinstance(reference, Timing):
            values |= {"images_per_second": batch_size / timing.median, "ratio": reference.median / timing.median}
        table.add(name, timing, **values)
    return table


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
