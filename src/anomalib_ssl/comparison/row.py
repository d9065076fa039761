# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""One line of ``results.csv``: a model trained and tested on one category with one seed."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from anomalib_ssl.file_names import safe_name

METRICS = {
    "image_AUROC": "image AUROC",
    "image_AUPR": "image AP",
    "image_F1Score": "image F1",
    "pixel_AUROC": "pixel AUROC",
    "pixel_AUPRO": "AUPRO",
    "pixel_F1Score": "pixel F1",
}
"""Metrics by the names anomalib logs them under, and how tables call them. All lie in [0, 1]; higher is better."""


@dataclass(frozen=True)
class Row:
    """A result. What is not known, or does not apply, is None; an empty cell in the file.

    Args:
        job: Name of the job, made from its settings: the same settings give the same name.
        status: ``ok`` or ``failed``.
        model: Name of the model's class.
        dataset: Name of the data set.
        seed: Seed of everything random, set before the model is built.
        category: Category of the data set.
        label: What reports shall call the model, where the configuration says so.
        model_args: Arguments given to the model, as JSON; what is not among them has its default.
        data_args: Arguments given to the datamodule but its root and category, as JSON.
        trainer_args: Arguments given to the Trainer, as JSON.
        transductive: Whether the model saw (unlabelled) test images while it was fitted.
        pretrained: Whether it starts from weights trained on other images.
        resolution: Size of the images that the network sees, ``HEIGHTxWIDTH``.
        budget: What ends training, such as ``1500 updates`` or ``1 epoch``.
        updates: Optimiser updates made.
        epochs: Epochs begun.
        train_batch_size: Images per batch of the datamodule in training.
        precision: Precision of the Trainer.
        train_images: Number of training images.
        test_images: Number of test images.
        image_AUROC: Area under the receiver operating characteristic of image scores.
        image_AUPR: Average precision of image scores.
        image_F1Score: F1 score at anomalib's threshold, which validation sets: on the test images, unless the
            datamodule splits them.
        pixel_AUROC: Area under the receiver operating characteristic of all pixels.
        pixel_AUPRO: Area under the per-region overlap, up to a false positive rate of 0.3.
        pixel_F1Score: As ``image_F1Score``, of pixels.
        images_per_second_1: Images scored per second, maps included, in batches of one.
        images_per_second_n: The same in batches of ``throughput_batch_size``.
        throughput_batch_size: Images per batch of ``images_per_second_n``.
        fit_duration: Seconds of training, validation included.
        training_duration: Seconds of training, from its first to its last update, without validations.
        test_duration: Seconds of the test.
        job_duration: Seconds of the whole job.
        peak_memory: Largest memory in MiB: on a GPU what PyTorch allocated, on a CPU the resident memory of the
            process, libraries included. None where the system does not tell.
        parameters: Number of parameters of the torch model.
        weights: Name of the trained network, the same for jobs that score with one; where it was kept.
        scored_by: How scores and heat maps are made, such as ``places_max, places``, of models that choose it.
        accelerator: ``cpu`` or ``cuda``.
        device: Name of the device.
        started: When the job started, UTC.
        anomalib: Version of anomalib.
        anomalib_ssl: Version of this package.
        torch: Version of PyTorch.
        python: Version of Python.
        commit: Commit of this package's repository where it is installed from one, with ``+`` if files were changed.
        error: Why the job failed, on one line.
    """

    job: str
    status: str
    model: str
    dataset: str
    seed: int
    category: str | None = None
    label: str | None = None
    model_args: str | None = None
    data_args: str | None = None
    trainer_args: str | None = None
    transductive: bool | None = None
    pretrained: bool | None = None
    resolution: str | None = None
    budget: str | None = None
    updates: int | None = None
    epochs: int | None = None
    train_batch_size: int | None = None
    precision: str | None = None
    train_images: int | None = None
    test_images: int | None = None
    image_AUROC: float | None = None  # noqa: N815  # anomalib's name, as are those below
    image_AUPR: float | None = None  # noqa: N815
    image_F1Score: float | None = None  # noqa: N815
    pixel_AUROC: float | None = None  # noqa: N815
    pixel_AUPRO: float | None = None  # noqa: N815
    pixel_F1Score: float | None = None  # noqa: N815
    images_per_second_1: float | None = None
    images_per_second_n: float | None = None
    throughput_batch_size: int | None = None
    fit_duration: float | None = None
    training_duration: float | None = None
    test_duration: float | None = None
    job_duration: float | None = None
    peak_memory: float | None = None
    parameters: int | None = None
    weights: str | None = None
    scored_by: str | None = None
    accelerator: str | None = None
    device: str | None = None
    started: str | None = None
    anomalib: str | None = None
    anomalib_ssl: str | None = None
    torch: str | None = None
    python: str | None = None
    commit: str | None = None
    error: str | None = None

    @property
    def pictures(self) -> tuple[str, str]:
        """Names of the file of its anomaly maps, and of that of the images, which all jobs of a category share."""
        data = "-".join(part for part in (self.dataset, self.category) if part)
        return f"{safe_name(self.job)}.npz", f"{safe_name(data)}.images.npz"

    def cells(self) -> list[str]:
        """Write the values as text, in the order of :data:`COLUMNS`; floats keep six digits."""
        return [_text(getattr(self, column)) for column in COLUMNS]

    @classmethod
    def from_cells(cls, cells: Mapping[str, str]) -> "Row":
        """Read the values back.

        Args:
            cells: Text by column. Unknown columns are left out, so that files of later versions can be read.

        Raises:
            ValueError: If a required column is missing, or a value is none that the column can have.
        """
        values = {name: _value(name, cells[name]) for name in COLUMNS if cells.get(name)}
        missing = [name for name in ("job", "status", "model", "dataset", "seed") if name not in values]
        if missing:
            msg = f"{', '.join(missing)} must not be empty."
            raise ValueError(msg)
        return cls(**values)


SETTINGS = ("model_args", "data_args", "trainer_args")
"""Columns of JSON."""

COLUMNS = tuple(field.name for field in fields(Row))
"""Columns of ``results.csv`` in their order."""


@cache
def column_types() -> dict[str, type]:
    """Look up what the columns hold: str, int, float or bool."""
    hints = get_type_hints(Row)
    return {
        name: next(kind for kind in (*get_args(hints[name]), hints[name]) if kind is not type(None)) for name in COLUMNS
    }


def _text(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _value(name: str, text: str) -> Any:
    """Read a value, or say what the column holds."""
    kind = column_types()[name]
    allowed = {bool: "True or False", int: "a whole number", float: "a number of at least 0", str: "text"}[kind]
    if name in METRICS:
        allowed = "a number in [0, 1]"
    elif name == "status":
        allowed = "ok or failed"
    elif name in SETTINGS:
        allowed = "a JSON object"
    try:
        value = text == "True" if kind is bool else kind(text)
        if name in SETTINGS:
            fits = isinstance(json.loads(text), dict)
        elif kind is float:
            fits = 0 <= value < math.inf and (name not in METRICS or value <= 1)
        else:
            fits = text in ("True", "False") if kind is bool else name != "status" or value in ("ok", "failed")
    except (ValueError, RecursionError):
        fits = False
    if not fits:
        msg = f"{name} must be {allowed}, got {text[:80]!r}."
        raise ValueError(msg)
    return value
