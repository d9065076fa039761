# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Optional compilation of the augmentations' arithmetic with ``torch.compile``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

_compiled: ContextVar[bool] = ContextVar("anomalib_ssl_compiled_augmentations", default=False)


@contextmanager
def compiled_augmentations(enabled: bool = True) -> Iterator[None]:
    """Run augmentations called inside this context through ``torch.compile``.

    Random numbers are drawn as ever, so results equal those outside up to rounding. What is compiled are the chains of
    elementwise operations, each of which then passes over its pixels once. The first call for a kind of input compiles,
    which takes seconds to a minute and needs a C++ compiler on the CPU.

    Args:
        enabled: False leaves things as they are.

    Example:
        >>> import torch
        >>> from anomalib_ssl.augmentations import ColorJitter
        >>> with compiled_augmentations():  # doctest: +SKIP
        ...     jittered, masks = ColorJitter()(torch.rand(8, 3, 64, 64))
    """
    token = _compiled.set(enabled or _compiled.get())
    try:
        yield
    finally:
        _compiled.reset(token)


def compilable(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a pure function of tensors to be compiled inside :func:`compiled_augmentations`."""

    @lru_cache(maxsize=1)
    def compiled() -> Any:
        return torch.compile(function)

    @wraps(function)
    def dispatch(*args: P.args, **kwargs: P.kwargs) -> R:
        if _compiled.get() and not torch.compiler.is_compiling():
            result: R = compiled()(*args, **kwargs)
            return result
        return function(*args, **kwargs)

    return dispatch
