# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Hands the jobs that are still to be done to a runner."""

from collections.abc import Generator, Sequence
from typing import Any

from anomalib.pipelines.components import JobGenerator
from anomalib.pipelines.types import PREV_STAGE_RESULT

from anomalib_ssl.comparison.recorded_job import RecordedJob


class BenchmarkJobGenerator(JobGenerator):
    """Hands jobs to anomalib's runners.

    Args:
        jobs: The jobs. They hold settings, neither models nor data, so that they are cheap to make and to send.
    """

    def __init__(self, jobs: Sequence[RecordedJob]) -> None:
        self.jobs = jobs

    @property
    def job_class(self) -> type[RecordedJob]:
        """The class of the jobs, whose ``collect`` and ``save`` a runner calls."""
        return RecordedJob

    def generate_jobs(
        self,
        args: dict[str, Any] | None = None,
        prev_stage_result: PREV_STAGE_RESULT = None,
    ) -> Generator[RecordedJob, None, None]:
        """Yield the jobs in their order."""
        del args, prev_stage_result
        yield from self.jobs
