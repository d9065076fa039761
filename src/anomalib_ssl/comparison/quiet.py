# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Sends everything a job prints and logs into a file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Append standard output, warnings and log records to a file while the context is open, and show nothing.

    Args:
        log: The file; its folder is made.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        file = log.open("a", encoding="utf-8")
        stack.callback(_close, file)
        stack.enter_context(contextlib.redirect_stdout(file))
        stack.enter_context(contextlib.redirect_stderr(file))
        stack.enter_context(warnings.catch_warnings())
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter(FORMAT))
        stack.enter_context(_only(handler))
        logging.captureWarnings(True)
        stack.callback(logging.captureWarnings, False)
        yield


def _close(file: TextIO) -> None:
    with contextlib.suppress(OSError):  # a full disk costs the end of a log, not the result of its job
        file.close()


@contextlib.contextmanager
def _only(handler: logging.Handler) -> Iterator[None]:
    """Let all loggers log to one handler alone, then put theirs back."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    before = [(logger, list(logger.handlers)) for logger in loggers if isinstance(logger, logging.Logger)]
    for logger, _ in before:
        logger.handlers = []
    logging.getLogger().handlers = [handler]
    # Loggers that do not pass their records on would be silent.
    silent = [logger for logger, handlers in before if handlers and not logger.propagate]
    for logger in silent:
        logger.handlers = [handler]
    try:
        yield
    finally:
        for logger, handlers in before:
            logger.handlers = handlers
