# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A job of anomalib's pipelines that never loses what it found out."""

import gc
import logging
import traceback
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from anomalib.pipelines.components.base import Job

from anomalib_ssl.comparison.quiet import quiet
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import Outcome, Store

logger = logging.getLogger(__name__)


class RecordedJob(Job):
    """Keeps its result, or its error, as soon as it ends, and never raises: the jobs after it go on.

    So anomalib's runners, which gather results at the very end, can be used as they are.

    Args:
        store: Where to keep the outcome.
    """

    name = "benchmark"

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    @abstractmethod
    def job(self) -> str:
        """Name of the job, a part of file names."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Say what the job is, as plain data, before it runs."""

    @abstractmethod
    def execute(self, device: int | None) -> Outcome:
        """Do the work; may raise.

        Args:
            device: Number of the accelerator to use; None for the first one.
        """

    @abstractmethod
    def failure(self, error: str, details: str) -> Outcome:
        """Make the outcome of a failure from its reason on one line and its traceback."""

    def run(self, task_id: int | None = None) -> Row | OSError | None:
        """Work and keep the outcome, unless another process does so, or did meanwhile.

        Returns:
            The row, or why it cannot be kept; None while another process is at it.
        """
        try:
            return self._run(task_id)
        except OSError as error:
            logger.exception("%s cannot be kept.", self.job)
            return error

    def _run(self, task_id: int | None) -> Row | None:
        with self.store.claimed(self.job) as mine:
            done = self.store.done().get(self.job)
            if done or not mine:
                return done
            self.store.start(self.job, self.describe())
            with quiet(self.store.log(self.job)):
                outcome = self.attempt(task_id)
            self.store.save(outcome)
            return outcome.row

    def attempt(self, device: int | None = None) -> Outcome:
        """Work, and turn an error into an outcome. Nothing is written, so this may run on another machine."""
        try:
            return self.execute(device)
        except Exception as error:  # whatever a model raises, the others go on
            logger.exception("%s failed.", self.job)
            return self.failure(reason(error), traceback.format_exc())
        finally:
            gc.collect()  # the next job may need the memory
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    @staticmethod
    def collect(results: Sequence[Row | OSError | None]) -> list[Row | None]:
        """Return the rows as they are: all are written already.

        Raises:
            OSError: If one cannot be kept.
        """
        rows: list[Row | None] = []
        for result in results:
            if isinstance(result, OSError):
                raise result
            rows.append(result)
        return rows

    @staticmethod
    def save(results: Sequence[Row | None]) -> None:
        """Do nothing: all rows are written already."""


def reason(error: BaseException) -> str:
    """Put an error on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
