# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""One model, one category, one seed: fitted, tested and measured."""

import datetime
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from anomalib.engine import Engine
from lightning import Trainer, seed_everything

from anomalib_ssl.comparison import environment
from anomalib_ssl.comparison.building import build
from anomalib_ssl.comparison.evaluation import RawScores, evaluator
from anomalib_ssl.comparison.measurement import PeakMemory, num_parameters, test_images, throughput
from anomalib_ssl.comparison.minutes import TimeBudget, TrainingTime
from anomalib_ssl.comparison.pictures import PictureCollector
from anomalib_ssl.comparison.recorded_job import RecordedJob
from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.comparison.shared_weights import NoTraining, SharedWeights, save_weights
from anomalib_ssl.comparison.specification import Specification
from anomalib_ssl.comparison.store import Outcome, Store

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

SILENT = {"enable_progress_bar": False, "enable_model_summary": False}
"""What the Trainer is told unless the configuration says otherwise."""


class BenchmarkJob(RecordedJob):
    """Fits and tests a model like anomalib's job of the same name, but seeds before it builds, and measures more.

    Args:
        specification: Settings.
        store: Where to keep the outcome.
        throughput_batch_size: Images per batch of the second measurement of speed; 0 measures no speed.
        picture_size: Side in pixels of the maps kept for the gallery; 0 keeps none.
        weights: Name of the trained network, if it is to be kept: of the jobs that score with it the first trains it.
    """

    def __init__(
        self,
        specification: Specification,
        store: Store,
        throughput_batch_size: int = 16,
        picture_size: int = 128,
        weights: str | None = None,
    ) -> None:
        super().__init__(store)
        self.specification = specification
        self.weights = weights
        self.throughput_batch_size = throughput_batch_size
        self.picture_size = picture_size

    @property
    def job(self) -> str:
        """Name of the job."""
        return self.specification.name

    def describe(self) -> dict[str, Any]:
        """Return the settings."""
        return {"started": _now(), "settings": asdict(self.specification)}

    def execute(self, device: int | None) -> Outcome:
        """Seed, build, fit, test, measure."""
        specification, started, clock = self.specification, _now(), Stopwatch()
        hardware = torch.device("cpu" if specification.accelerator == "cpu" else f"cuda:{device or 0}")
        memory = PeakMemory(hardware)
        seed_everything(specification.seed, workers=True, verbose=False)
        with TemporaryDirectory(prefix="anomalib-ssl-") as folder, ExitStack() as alone:
            engine_with = partial(
                Engine,
                accelerator=specification.accelerator,
                devices=[device or 0] if hardware.type == "cuda" else 1,
                default_root_dir=folder,
                **(SILENT | specification.trainer),
            )
            file = None if self.weights is None else self.store.weights(self.weights)
            if file is not None and not file.is_file():
                alone.enter_context(self.store.lock(file.name))  # other processes wait for what this one trains
            shared = SharedWeights(file) if file is not None and file.is_file() else None
            training, minutes = TrainingTime(), specification.minutes
            if minutes is not None and shared is None:
                specification, training = specification.unlimited(), TimeBudget(60 * minutes)
            model, datamodule, arguments, pretrained = build(specification)
            pictures = PictureCollector(self.picture_size)
            model.evaluator = evaluator(model.evaluator)
            model.visualizer = pictures  # type: ignore[assignment]  # anomalib sets its own ones so, too
            instead = shared or (NoTraining() if specification.untrained else None)
            raw = RawScores()
            engine = engine_with(callbacks=[raw, instead or training])
            clock.restart()
            engine.fit(model=model, datamodule=datamodule)
            if instead is not None:
                engine.validate(model=model, datamodule=datamodule, verbose=False)  # thresholds come from there
            if shared is None:
                progress = budget(engine.trainer, specification.trainer)
                progress |= {"fit_duration": clock.restart(), "training_duration": training.seconds}
                if minutes is not None:
                    progress["budget"] = _counted(minutes, "minute")
                if file is not None:
                    self._optional("the trained network", partial(save_weights, file, model, progress), None)
            else:
                progress = shared.training
                clock.restart()
            alone.close()
            (measured,) = engine.test(model=model, datamodule=datamodule, verbose=False)
            test_duration = clock.restart()
        peak = memory.mib()
        measured = raw.meaningful(_plain(measured))

        def speeds() -> dict[int, float]:
            return throughput(model.to(hardware), test_images(model, datamodule, self.throughput_batch_size))

        speed: dict[int, float] = {}
        if self.throughput_batch_size:
            speed = self._optional("the speed", speeds, speed)
        row = Row(
            **self._identity(),
            status="ok",
            dataset=datamodule.name,
            category=datamodule.category or None,
            transductive=bool(getattr(model, "transductive", False)),
            pretrained=pretrained,
            resolution="x".join(str(side) for side in pictures.resolution or ()) or None,
            **progress,
            train_batch_size=getattr(datamodule, "train_batch_size", None),
            precision=str(engine.trainer.precision),
            train_images=len(datamodule.train_data),
            test_images=len(datamodule.test_data),
            **{name: value for name, value in measured.items() if name in METRICS},
            images_per_second_1=speed.get(1),
            images_per_second_n=speed.get(self.throughput_batch_size),
            throughput_batch_size=self.throughput_batch_size or None,
            weights=self.weights if file is not None and file.is_file() else None,
            scored_by=", ".join(getattr(getattr(model.model, "scorer", None), "chosen", ())) or None,
            test_duration=test_duration,
            job_duration=clock.total(),
            peak_memory=peak,
            parameters=num_parameters(model),
            device=environment.device_name(hardware),
            started=started,
            **environment.versions(),
        )
        details = {"settings": asdict(specification), "arguments": arguments, "measured": measured}
        kept = partial(pictures.files, row.pictures, model.pre_processor)
        return Outcome(row, details, self._optional("the pictures", kept, {}))

    def _optional(self, what: str, measure: Callable[[], Value], otherwise: Value) -> Value:
        """Measure or keep what a result can do without: after a training, nothing of that kind shall lose it."""
        try:
            return measure()
        except Exception:  # out of memory, disk or patience
            logger.exception("%s: without %s.", self.job, what)
            return otherwise

    def failure(self, error: str, details: str) -> Outcome:
        """Keep the settings and the error."""
        specification = self.specification
        row = Row(
            **self._identity(),
            status="failed",
            dataset=str(specification.data_args.get("name") or specification.data_class),
            category=specification.category,
            started=_now(),
            **environment.versions(),
            error=error,
        )
        return Outcome(row, {"settings": asdict(specification), "traceback": details})

    def _identity(self) -> dict[str, Any]:
        specification = self.specification
        data = {name: value for name, value in specification.data_args.items() if name not in ("root", "category")}
        model = {name: value for name, value in specification.model_args.items() if name != "seed"}
        return {
            "job": self.job,
            "model": specification.model_class,
            "label": specification.label,
            "model_args": _json(model),
            "data_args": _json(data),
            "trainer_args": _json(specification.trainer),
            "seed": specification.seed,
            "accelerator": specification.accelerator,
        }


class Stopwatch:
    """Seconds since it was made, and since it was last asked."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def restart(self) -> float:
        """Seconds since the last restart."""
        now = time.perf_counter()
        elapsed, self._last = now - self._last, now
        return elapsed

    def total(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._start


def budget(trainer: Trainer, given: Mapping[str, Any]) -> dict[str, Any]:
    """Describe what limited a training and what was done, by the columns of a row.

    Args:
        trainer: The Trainer after the training; models of this package have lowered its limits to their own budget.
        given: Arguments of the Trainer that the configuration sets.
    """
    limits = [_counted(trainer.max_steps, "update")] if trainer.max_steps != -1 else []
    if trainer.max_epochs and trainer.max_epochs > 0 and ("max_epochs" in given or not limits):
        limits.append(_counted(trainer.max_epochs, "epoch"))
    if "max_time" in given:
        limits.append(str(given["max_time"]))
    fitted = trainer.global_step > 0 or trainer.current_epoch > 0
    return {
        "budget": " or ".join(limits) if fitted else "no training",
        "updates": trainer.global_step,
        "epochs": trainer.current_epoch,
    }


def _counted(number: float, unit: str) -> str:
    return f"{int(number) if number == int(number) else number} {unit}{'' if number == 1 else 's'}"


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _json(value: Mapping[str, Any]) -> str | None:
    return json.dumps(value, sort_keys=True, default=str) if value else None


def _plain(measured: Mapping[str, Any]) -> dict[str, Any]:
    return {name: float(value) for name, value in measured.items() if value is not None}
