# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the refinement of SSM costs when images are scored, and what its options save.

Run as ``python benchmarks/ssm_inference.py`` for a network of random weights and images that are restored perfectly but
for a square defect in some of them, and with ``--ckpt_path model.ckpt --data FOLDER`` for a trained network and its
images.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from anomalib.data.utils import read_image
from harness.machine import default_devices
from harness.measure import Competitor, Timing, measure, synchronizer
from harness.photographs import photograph
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from numpy.random import default_rng

from anomalib_ssl import SSM
from anomalib_ssl.checks import check_number, check_whole
from anomalib_ssl.image_files import find_images
from anomalib_ssl.models.ssm import RefinementPass, SSMModel
from anomalib_ssl.models.ssm.refinement import Restore
from anomalib_ssl.training.images.transforms import preprocessed

REFERENCE = "2 passes"
TWO = {"refinement_passes": 2}
BOARDS = {"initial_masks": "checkerboard"}
# Under the names that the model itself has for them; it makes one pass unless told otherwise.
WAYS: dict[str, dict[str, Any]] = {
    REFERENCE: TWO,
    "2 passes, checkerboards": TWO | BOARDS,
    "1 pass": {},
    "1 pass, checkerboards": BOARDS,
    "3 passes": {"refinement_passes": 3},
}
COLUMNS = (
    Column("name", "way"),
    Column("images_per_second", "images/s", ",.2f"),
    Column("spread", "spread", ".0%"),
    Column("ratio", "x reference", ".2f"),
    Column("restorations", "restorations/image", ".1f"),
    Column("uncovered", "uncovered", ".0%"),
)


def benchmark(
    widths: Sequence[int] = (64, 128, 256, 512, 512),
    image_size: int = 256,
    batch_size: int = 4,
    defective: float = 0.25,
    defect_size: int = 32,
    chunk: int = 16,
    ways: Sequence[str] = tuple(WAYS),
    devices: Sequence[str] | None = None,
    repeats: int = 5,
    min_seconds: float = 0.2,
    ckpt_path: Path | None = None,
    data: Path | None = None,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time all ways on one device after the other.

    Args:
        widths: Channels of the network's stages. Of a checkpoint, they are its own, as is the image size.
        image_size: Side of the images in pixels.
        batch_size: Images per call.
        defective: Share of the images with a defect, rounded to whole images.
        defect_size: Side of the defect in pixels.
        chunk: Most masked images that pass through the network at once.
        ways: Which ways, the reference first; everything by default.
        devices: ``cpu``, ``cuda``; what is there by default.
        repeats: Turns of each way.
        min_seconds: Least duration of a turn.
        ckpt_path: Checkpoint of an SSM, in place of random weights.
        data: Folder of images for it, of which as many are taken as a call has, spread evenly; ``test`` in MVTec
            layout.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.

    Raises:
        ValueError: If an argument is out of its range, or a checkpoint comes without images.
    """
    arguments = dict(locals())
    check_number("defective", defective, 0, 1)
    check_whole("defect_size", defect_size, 1, image_size)
    if (ckpt_path is None) != (data is None):
        msg = "ckpt_path and data go together."
        raise ValueError(msg)
    tables = []
    for device in devices or default_devices():
        if ckpt_path is not None and data is not None:
            title = f"{ckpt_path.name}, {batch_size} images of {data.name}: {device}"
            scorers = _trained(ckpt_path, data, batch_size, chunk, ways, device)
        else:
            shown = "-".join(map(str, widths))
            title = f"widths {shown}, {batch_size} images of {image_size}x{image_size}: {device}"
            clean, images = _photographs(image_size, batch_size, defective, defect_size, device)
            scorers = {way: _untrained(clean, images, widths, chunk, way) for way in ways}
        tables.append(_time(title, scorers, batch_size, device, repeats, min_seconds))
        show(tables[-1])
    return save("ssm_inference", arguments, tables, out, markdown)


class Scorer:
    """Scores a batch of images in one way.

    Args:
        model: The model.
        images: The batch (B, 3, H, W).
        restore: What restores masked images. Defaults to the model's network.
    """

    def __init__(self, model: SSMModel, images: torch.Tensor, restore: Restore | None = None) -> None:
        self.model = model
        self.images = images
        self.restore: Restore = restore or model.network.restore
        self.restorations = 0
        self.last: RefinementPass | None = None

    @torch.inference_mode()
    def __call__(self) -> None:
        """Score the batch, and note the last pass and how many masked images were restored."""
        self.restorations = 0
        *_, self.last = self.model.refinement.passes(self.images, self._counted)

    def _counted(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        self.restorations += len(images)
        return self.restore(images, masks)


def _untrained(clean: torch.Tensor, images: torch.Tensor, widths: Sequence[int], chunk: int, way: str) -> Scorer:
    """Score by a network of random weights, which is run but whose answer is replaced by the clean image."""
    size = (clean.shape[-2], clean.shape[-1])
    model = SSMModel(size, widths, **WAYS[way])
    model.refinement.map_sigma = 7 * min(size) / 256
    model.refinement.chunk = chunk
    model.to(clean.device).eval()
    return Scorer(model, images, _replaced(model.network.restore, clean))


def _replaced(restore: Restore, clean: torch.Tensor) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda images, masks: clean + 0 * restore(images, masks)


def _photographs(
    image_size: int, batch_size: int, defective: float, defect_size: int, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a clean image (1, 3, H, W), and a batch of it of which some have a noisy square in their middle."""
    pixels = torch.from_numpy(photograph(image_size, default_rng(0)))
    clean = (pixels.permute(2, 0, 1).unsqueeze(0).float() / 255).to(device)
    images = clean.repeat(batch_size, 1, 1, 1)
    start = (image_size - defect_size) // 2
    count = round(defective * batch_size)
    square = torch.rand(count, 3, defect_size, defect_size, generator=torch.Generator().manual_seed(0))
    images[:count, :, start : start + defect_size, start : start + defect_size] = square.to(device)
    return clean, images


def _trained(
    ckpt_path: Path, data: Path, batch_size: int, chunk: int, ways: Sequence[str], device: str
) -> dict[str, Scorer]:
    paths = find_images("data", data, "test")
    picked = [paths[number * len(paths) // batch_size] for number in range(batch_size)]
    scorers = {}
    trained = SSM.load_from_checkpoint(ckpt_path, map_location=device)
    for way in ways:
        # Statistics stay those of the checkpoint: what is compared are speeds and maps of errors.
        model = SSM(**trained.hparams | WAYS[way]).to(device).eval()
        model.load_state_dict(trained.state_dict())
        model.model.refinement.chunk = chunk
        read = [torch.as_tensor(read_image(path, as_tensor=True)).unsqueeze(0) for path in picked]
        prepared = [preprocessed(model, image) for image in read]
        scorers[way] = Scorer(model.model, torch.cat(prepared).to(device))
    return scorers


def _time(
    title: str, scorers: dict[str, Scorer], batch_size: int, device: str, repeats: int, min_seconds: float
) -> Table:
    competitors = [Competitor(way, scorer, warmup=1) for way, scorer in scorers.items()]
    timings = measure(competitors, repeats, min_seconds, synchronizer(device))
    table = Table(title, COLUMNS)
    reference = timings[next(iter(scorers))]
    for way, timing in timings.items():
        values, scorer = {}, scorers[way]
        if isinstance(timing, Timing) and isinstance(reference, Timing) and scorer.last is not None:
            values = {
                "images_per_second": batch_size / timing.median,
                "ratio": reference.median / timing.median,
                "restorations": scorer.restorations / batch_size,
                "uncovered": float(scorer.last.uncovered.mean()),
            }
        table.add(way, timing, **values)
    return table


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
