# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl benchmark``: many models, categories and seeds, with nothing lost on the way."""

import shlex
import sys
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from anomalib.pipelines.components.base import Runner
from anomalib.pipelines.components.runners import ParallelRunner, SerialRunner
from anomalib.pipelines.components.runners.parallel import ParallelExecutionError
from anomalib.pipelines.components.runners.serial import SerialExecutionError
from rich.console import Console

from anomalib_ssl.checks import check_choices, check_number, check_output, check_whole
from anomalib_ssl.comparison.building import check, network_name
from anomalib_ssl.comparison.generator import BenchmarkJobGenerator
from anomalib_ssl.comparison.job import BenchmarkJob
from anomalib_ssl.comparison.progress import Progress, shown
from anomalib_ssl.comparison.quiet import quiet
from anomalib_ssl.comparison.ray_runner import RayRunner
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.specification import specifications
from anomalib_ssl.comparison.store import Store

ACCELERATORS = ("auto", "cpu", "cuda")


def benchmark(
    benchmark: dict,  # not of Any: jsonargparse would build the models that it finds in there
    accelerator: str | list[str] = "auto",
    output: Path = Path("runs/benchmark"),
    resume: bool = False,
    runner: Literal["auto", "serial", "parallel", "ray"] = "auto",
    workers: int | None = None,
    data_root: str | None = None,
    categories: list[str] | Literal["all"] | None = None,
    seeds: list[int] | None = None,
    minutes: list[float] | float | None = None,
    throughput_batch_size: int = 16,
    picture_size: int = 128,
    ray_address: str | None = None,
    ray_gpus: float | None = None,
    ray_cpus: float = 1,
    retries: int = 3,
) -> int:
    """Fit, test and measure models on data sets; keep each result as soon as it is there.

    ``--config`` takes the files of ``anomalib benchmark``. Beyond these, entries of ``model`` may differ in their
    arguments and hold ``label``, ``seed``, ``trainer``, ``data``, ``pretrained`` and ``untrained``; ``seed`` may be a
    list; ``trainer`` holds arguments of the Trainer. Any option below may stand in the file, too.

    Entries that differ only in how they score, as their model says by ``scoring_arguments``, share one training unless
    they are tasks of Ray. Everything is seeded before a model is built. A job that fails is recorded with its error and
    the others go on.

    Args:
        benchmark: Models, data and seeds; see above.
        accelerator: ``cpu``, ``cuda``, a list of both, or ``auto`` for a GPU if there is one.
        output: Folder of the results.
        resume: Go on with the jobs that are not done, failed ones included; without it the folder must hold no results.
        runner: ``serial`` for one job after the other, ``parallel`` for one process per GPU (or ``workers`` processes),
            ``ray`` for a Ray cluster; ``auto`` is parallel where there are several GPUs.
        workers: Processes of the parallel runner. Defaults to the number of GPUs.
        data_root: Folder of the data, in place of the one in the configuration.
        categories: Categories, in place of those in the configuration; ``all`` for every folder of the root in MVTec
            layout with masks.
        seeds: Seeds, in place of those in the configuration.
        minutes: Budget, or several, in minutes of training without validations, in place of ``max_updates`` of this
            package's models. How many updates fit into it is measured all the while, and the learning rate follows.
        throughput_batch_size: Images per batch of the second measurement of speed; 0 measures no speed.
        picture_size: Side in pixels of the anomaly maps kept for the gallery of a report; 0 keeps none.
        ray_address: Address of the Ray cluster, ``auto`` for the one this machine is in; by default one is started.
        ray_gpus: GPUs per task of Ray. Defaults to 1 for ``cuda`` and to 0 for ``cpu``.
        ray_cpus: CPU cores per task of Ray.
        retries: How often Ray tries a task again after the death of its worker.

    Returns:
        0, or 1 if a job failed.

    Raises:
        FileExistsError: If there are results already and ``resume`` is not set.
        FileNotFoundError: If there is no such ``data_root``.
        OSError: If a result cannot be kept, after the last job.
        ValueError: If the configuration is wrong, which shows before the first job starts.
    """
    check_whole("throughput_batch_size", throughput_batch_size, 0)
    check_whole("picture_size", picture_size, 0)
    check_whole("retries", retries, 0)
    check_number("ray_cpus", ray_cpus, 0)
    if ray_gpus is not None:
        check_number("ray_gpus", ray_gpus, 0)
    budgets = [minutes] if isinstance(minutes, int | float) else minutes
    if budgets == []:
        msg = "minutes must be one number or more, got []."
        raise ValueError(msg)
    for budget in budgets or ():
        check_number("minutes", budget, 0.01)
    if data_root is not None and not (data_root and Path(data_root).is_dir()):
        msg = (
            f"data_root must be a folder that exists, got '{data_root}': data are downloaded to configured roots alone."
        )
        raise FileNotFoundError(msg)
    console, store = Console(file=sys.stdout), Store(output)
    if not resume and store.has_results():
        msg = f"'{store.folder}' holds results: --resume goes on with them, --output starts others."
        raise FileExistsError(msg)
    wanted = [
        specification
        for name in _accelerators(accelerator)
        for specification in specifications(benchmark, name, data_root, categories, seeds, budgets)
    ]
    check_output("output", output)
    with quiet(output / "benchmark.log"):
        check(wanted)
    store.heal()
    done = store.done()
    for specification in wanted:
        row = done.get(specification.name)
        if row is None:
            continue
        pretrained = row.pretrained if specification.pretrained is None else specification.pretrained
        renewed = replace(row, label=specification.label, pretrained=pretrained)
        if renewed != row:
            store.append(renewed)
    # Tasks of Ray have no common folder, so that each trains.
    named = (None if runner == "ray" else network_name(specification) for specification in wanted)
    jobs = [
        BenchmarkJob(specification, store, throughput_batch_size, picture_size, network)
        for specification, network in zip(wanted, named, strict=True)
        if specification.name not in done
    ]
    progress = Progress(
        store, {job.job: job.specification.model_class for job in jobs}, skipped=len(wanted) - len(jobs)
    )
    groups = {
        name: [job for job in jobs if job.specification.accelerator == name] for name in _accelerators(accelerator)
    }
    runners = {
        name: _runner(BenchmarkJobGenerator(group), name, runner, workers, ray_address, ray_gpus, ray_cpus, retries)
        for name, group in groups.items()
        if group
    }
    rows: list[Row | None] = []
    with shown(progress, console), quiet(output / "benchmark.log"):
        for chosen in runners.values():
            progress.parallel = getattr(chosen, "n_jobs", 1)
            rows += _run(chosen)
    elsewhere = len(jobs) - sum(row is not None for row in rows)
    if elsewhere:
        console.print(f"{elsewhere} jobs are left to another benchmark in this folder.", highlight=False)
    console.print(f"Results: {store.table}", highlight=False, markup=False, soft_wrap=True)
    hint = f"A report of them: anomalib-ssl report {shlex.quote(str(store.table))}"
    console.print(hint, highlight=False, markup=False, soft_wrap=True, style="dim")
    return 1 if any(row is not None and row.status == "failed" for row in rows) else 0


def _accelerators(accelerator: str | Sequence[str]) -> list[str]:
    names = [accelerator] if isinstance(accelerator, str) else list(accelerator)
    check_choices("accelerator", names, ACCELERATORS)
    found = "cuda" if torch.cuda.is_available() else "cpu"
    if "cuda" in names and found == "cpu":
        msg = "accelerator must be cpu or auto where PyTorch sees no GPU, got 'cuda'."
        raise ValueError(msg)
    return list(dict.fromkeys(found if name == "auto" else name for name in names))


def _runner(
    generator: BenchmarkJobGenerator,
    accelerator: str,
    runner: str,
    workers: int | None,
    ray_address: str | None,
    ray_gpus: float | None,
    ray_cpus: float,
    retries: int,
) -> Runner:
    """Make the runner of one accelerator."""
    gpus = torch.cuda.device_count() if accelerator == "cuda" else 0
    if runner == "ray":
        per_task = float(accelerator == "cuda") if ray_gpus is None else ray_gpus
        return RayRunner(generator, ray_address, per_task, ray_cpus, retries)
    if runner == "parallel" or (runner == "auto" and gpus > 1):
        count = workers or gpus
        if count < 1 or (gpus and count > gpus):
            msg = f"workers must be at least 1, and on GPUs at most their number, {gpus}; got {workers}."
            raise ValueError(msg)
        return ParallelRunner(generator, n_jobs=count)
    return SerialRunner(generator)


def _run(runner: Runner) -> list[Row | None]:
    """Run; None stands for a job of which another benchmark takes care."""
    try:
        rows: list[Row | None] = runner.run({})
    except (BrokenProcessPool, ParallelExecutionError, SerialExecutionError) as error:
        # No job raises: a worker process is gone.
        reason = error or "its process died, perhaps for lack of memory"
        msg = f"a job broke off ({reason}); --resume goes on with what is left."
        raise ValueError(msg) from error
    return rows
