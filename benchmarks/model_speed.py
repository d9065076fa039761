# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How many images per second the models of a comparison score, in each way to deploy them.

Run as ``python benchmarks/model_speed.py``. A call is what exported graphs do: scores, maps, labels and masks of images
of the model's own size. Weights are random and images noise. That matters to SSM alone: nothing in noise is restored
well, so PyTorch leaves out no masked image, as exported graphs never do.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from types import SimpleNamespace
from typing import Any

import torch
import yaml
from anomalib.deploy import CompressionType
from anomalib.models import AnomalibModule, Padim, Patchcore
from harness.machine import default_devices
from harness.measure import Competitor, Timing, measure, synchronizer
from harness.quiet import quiet
from harness.report import Column, Table, save, show
from jsonargparse import auto_cli
from torch.utils.data import DataLoader

from anomalib_ssl.checks import check_choices
from anomalib_ssl.comparison.building import build
from anomalib_ssl.comparison.specification import Specification, specifications

Score = Callable[[torch.Tensor], object]


def noise(model: AnomalibModule, count: int) -> torch.Tensor:
    """Images of the size that the model resizes to."""
    return torch.rand(count, 3, *(model.input_size or (256, 256)), device=model.device)


def pytorch(model: AnomalibModule, _folder: Path, dtype: torch.dtype = torch.float32) -> Score:
    """The model as it is, or under autocast."""
    autocast = torch.autocast(model.device.type, dtype, enabled=dtype != torch.float32)
    return autocast(torch.inference_mode()(model.forward))


def onnx_runtime(model: AnomalibModule, folder: Path) -> Score:
    """The graph that anomalib exports, in ONNX Runtime."""
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = model.to_onnx(folder, input_size=model.input_size)
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    return lambda images: session.run(None, {"input": images.numpy()})


def openvino_float32(model: AnomalibModule, folder: Path, **compression: Any) -> Score:
    """The graph that anomalib exports, in OpenVINO, which by itself would take bfloat16 where the processor has it."""
    path = model.to_openvino(folder, input_size=model.input_size, **compression)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    graph = import_module("openvino").Core().compile_model(path, "CPU", settings)
    return lambda images: graph(images.numpy())


class Images(list[dict[str, torch.Tensor]]):
    """Images as a data set of anomalib."""

    def collate_fn(self, items: Sequence[dict[str, torch.Tensor]]) -> SimpleNamespace:
        """A batch of them."""
        return SimpleNamespace(image=torch.stack([item["image"] for item in items]))


def openvino_int8(model: AnomalibModule, folder: Path) -> Score:
    """The graph that NNCF quantises for anomalib's export, calibrated with noise."""
    import_module("nncf")  # without it anomalib's error has no message
    images = Images({"image": image} for image in noise(model, 16))
    # anomalib's models are calibrated with validation images, those of this package with training images.
    datamodule = SimpleNamespace(setup=lambda _: None, val_dataloader=lambda: DataLoader(images), train_data=images)
    return openvino_float32(model, folder, compression_type=CompressionType.INT8_PTQ, datamodule=datamodule)


REFERENCE = "PyTorch, float32"
WAYS: dict[str, Callable[[AnomalibModule, Path], Score]] = {
    REFERENCE: pytorch,
    "PyTorch, bfloat16": partial(pytorch, dtype=torch.bfloat16),
    "ONNX Runtime": onnx_runtime,
    "OpenVINO, float32": openvino_float32,
    "OpenVINO, int8": openvino_int8,
}
"""What makes a fitted model score batches; the folder is for exports."""


def benchmark(
    configuration: Path = Path("configs/benchmark/cpu.yaml"),
    batch_sizes: Sequence[int] = (1, 16),
    models: Sequence[str] | None = None,
    ways: Sequence[str] = tuple(WAYS),
    devices: Sequence[str] | None = None,
    repeats: int = 5,
    out: Path | None = None,
    markdown: Path | None = None,
) -> dict[str, Any]:
    """Time all models in all ways on one device after the other; on a GPU those of PyTorch alone.

    Args:
        configuration: File of ``anomalib-ssl benchmark``, with models of this package, PaDiM and PatchCore.
        batch_sizes: Images per call.
        models: Names of classes, to time these alone.
        ways: Which ways; everything by default.
        devices: ``cpu``, ``cuda``; what is there by default.
        repeats: Turns of each model in each way.
        out: JSON file to write.
        markdown: Markdown file to write.

    Returns:
        What the JSON file holds.
    """
    arguments = dict(locals())
    check_choices("ways", ways, WAYS)
    fitted, tables = _models(configuration, models), []
    for device in devices or default_devices():
        tables.append(_time(fitted, batch_sizes, ways, device, repeats))
        show(tables[-1])
    return save("model_speed", arguments, tables, out, markdown)


def _models(configuration: Path, names: Sequence[str] | None) -> dict[str, AnomalibModule]:
    """Make the models of a configuration, each once, called by label or class and by size."""
    jobs = specifications(yaml.safe_load(configuration.read_text(encoding="utf-8"))["benchmark"], seeds=[0])
    distinct = {repr(job.model): job for job in jobs if not job.untrained}.values()
    known = {job.model_class for job in distinct}
    check_choices("models", names or list(known), known)
    models: dict[str, AnomalibModule] = {}
    for model, job in ((_fitted(job), job) for job in distinct if job.model_class in (names or known)):
        name = f"{job.label or job.model_class}, {'x'.join(map(str, noise(model, 1).shape[2:]))}"
        models[f"{name}, {len(models) + 1}" if name in models else name] = model
    return models


@torch.no_grad()
def _fitted(job: Specification) -> AnomalibModule:
    """Make a model of random weights, its statistics or memory as large as after training on 200 images."""
    if job.model_class in ("Padim", "Patchcore"):
        job = replace(job, model={**job.model, "init_args": {**job.model_args, "pre_trained": False}})
    model: Any = build(job).model
    if isinstance(model, Padim):
        _, width, rows, columns = model.model.train()(noise(model, 1)).shape
        model.model.gaussian.mean = torch.rand(width, rows * columns)
        model.model.gaussian.inv_covariance = torch.eye(width).repeat(rows * columns, 1, 1)
    elif isinstance(model, Patchcore):
        features = model.model.train()(noise(model, 1))
        model.model.memory_bank = torch.rand(int(200 * len(features) * model.coreset_sampling_ratio), features.shape[1])
    else:
        model.fit_statistics([noise(model, 4)])
    for threshold in model.post_processor.buffers():
        threshold.fill_(0.5)  # without a validation it is NaN, which PyTorch does not compare with and graphs do
    return model.eval()


def _time(
    models: dict[str, AnomalibModule], batch_sizes: Sequence[int], ways: Sequence[str], device: str, repeats: int
) -> Table:
    pairs = [pair for pair in product(models, ways) if device == "cpu" or pair[1].startswith("PyTorch")]
    with TemporaryDirectory() as folder:
        scores = {(name, way): _score(way, models[name].to(device), folder) for name, way in pairs}
        competitors = [
            Competitor(f"{name}, {way}, {size}", partial(score, noise(models[name], size)))
            for ((name, way), score), size in product(scores.items(), batch_sizes)
        ]
        timings = measure(competitors, repeats, 0.5, synchronizer(device))
    columns = [Column("name", "model"), Column("way", "way")]
    for size in batch_sizes:
        columns.append(Column(f"images_per_second_{size}", f"images/s, batch of {size}", ",.2f"))
        columns += [Column(f"spread_{size}", "spread", ".0%"), Column(f"ratio_{size}", f"x {REFERENCE}", ".2f")]
    table = Table(f"Images of noise: {device}", tuple(columns))
    for name, way in pairs:
        row: dict[str, Any] = {"name": name, "way": way}
        for size in batch_sizes:
            timing, reference = (timings.get(f"{name}, {tried}, {size}") for tried in (way, REFERENCE))
            if isinstance(timing, Timing):
                row |= {f"images_per_second_{size}": size / timing.median, f"spread_{size}": timing.spread}
                row[f"quartile_seconds_{size}"] = [timing.quartiles[0], timing.quartiles[2]]
                row[f"ratio_{size}"] = reference.median / timing.median if isinstance(reference, Timing) else None
            elif timing is not None:
                table.skipped[f"{name}, {way}"] = timing.reason
        table.rows.append(row)
    return table


def _score(way: str, model: AnomalibModule, folder: str) -> Score:
    """Deploy a model when it first scores: what fails there, of a type that the harness expects, is listed by it."""
    deployed, path = cache(quiet()(WAYS[way])), Path(mkdtemp(dir=folder))

    def score(images: torch.Tensor) -> object:
        try:
            return deployed(model, path)(images)
        except Exception as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name
            raise RuntimeError(f"{missing} is not installed" if missing else " ".join(str(error).split())) from error

    return score


if __name__ == "__main__":
    auto_cli(benchmark, as_positional=False)
