# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Running a network once to see what it gives, without leaving a trace in it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def probing(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode and without gradients, and give it and all its parts their modes back.

    Args:
        module: What is run meanwhile.
    """
    # One by one: a frozen part may be in evaluation mode while what it is part of is trained.
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training
