# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Runs jobs on a Ray cluster."""

import logging
from contextlib import ExitStack
from typing import Any

from anomalib.pipelines.components.base import Runner
from anomalib.pipelines.types import PREV_STAGE_RESULT

from anomalib_ssl.comparison.generator import BenchmarkJobGenerator
from anomalib_ssl.comparison.recorded_job import RecordedJob, reason
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import Outcome

logger = logging.getLogger(__name__)


class RayRunner(Runner):
    """Makes each job one task of Ray, with its share of GPUs, and keeps results as they come in.

    Ray runs as many tasks at once as its machines have room for. A task whose process or machine dies is tried again;
    one that raises has failed, as with any other runner. Tasks write nothing: the machines need this package and the
    data at the same path, but no common folder.

    Args:
        generator: Generator of the jobs.
        address: Address of the cluster, ``auto`` for the one this machine belongs to; None starts one on this machine.
        gpus: GPUs per task; a fraction shares them.
        cpus: CPU cores per task.
        retries: How often a task is tried again after the death of its worker.

    Raises:
        ModuleNotFoundError: When run, if Ray is not installed.
        OSError: When run, after all jobs, if a result cannot be kept.
    """

    def __init__(
        self,
        generator: BenchmarkJobGenerator,
        address: str | None = None,
        gpus: float = 0,
        cpus: float = 1,
        retries: int = 3,
    ) -> None:
        super().__init__(generator)
        self.generator: BenchmarkJobGenerator = generator
        self.address = address
        self.gpus = gpus
        self.cpus = cpus
        self.retries = retries

    def run(self, args: dict[str, Any], prev_stage_results: PREV_STAGE_RESULT = None) -> list[Row | None]:
        """Submit all jobs that no other benchmark has claimed, and keep each outcome when it is there."""
        ray = _import_ray()
        started = not ray.is_initialized()
        if started:
            ray.init(
                address=self.address, log_to_driver=False, include_dashboard=False if self.address is None else None
            )
        try:
            # A lambda is sent as it is: a worker imports what the job needs and no more. Ray shows it its own GPUs.
            task = ray.remote(lambda job: job.attempt()).options(
                num_gpus=self.gpus, num_cpus=self.cpus, max_retries=self.retries
            )
            pending: dict[Any, RecordedJob] = {}
            rows: list[Row | OSError] = []
            with ExitStack() as claims:
                for job in self.generator.generate_jobs(args, prev_stage_results):
                    if claims.enter_context(job.store.claimed(job.job)):
                        job.store.start(job.job, job.describe(), state="queued")
                        pending[task.remote(job)] = job
                while pending:
                    (done, *_), _ = ray.wait(list(pending), num_returns=1)
                    job = pending.pop(done)
                    outcome = _outcome(ray, done, job)
                    try:
                        job.store.save(outcome)
                        rows.append(outcome.row)
                    except OSError as error:  # the others' results are still to come
                        logger.exception("%s cannot be kept.", job.job)
                        rows.append(error)
            return RecordedJob.collect(rows)
        finally:
            if started:
                ray.shutdown()


def _outcome(ray: Any, done: Any, job: RecordedJob) -> Outcome:
    try:
        outcome: Outcome = ray.get(done)
    except ray.exceptions.RayError as error:  # the worker died once too often, or the job could not be sent
        logger.exception("%s got lost.", job.job)
        return job.failure(reason(error), str(error))
    return outcome


def _import_ray() -> Any:
    try:
        import ray  # noqa: PLC0415  # an optional dependency
    except ModuleNotFoundError as error:
        msg = "the runner 'ray' needs Ray: pip install 'anomalib-ssl[ray]'"
        raise ModuleNotFoundError(msg, name="ray") from error
    return ray
