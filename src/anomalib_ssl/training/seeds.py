# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random numbers of a run as a pure function of its seed and of how far it is, so that a resumed run repeats them."""

from typing import Literal

import numpy as np
import torch

PURPOSES = ("draw", "update")
"""What random numbers are for: batches of images as they are drawn, and what the model does with them."""


def seed_step(purpose: Literal["draw", "update"], *numbers: int) -> None:
    """Seed torch's global generators, on all devices, for one step of a run.

    Args:
        purpose: What the random numbers are for.
        *numbers: What tells the step from all others, first the seed of the run. At least 0 each.
    """
    torch.manual_seed(hashed(PURPOSES.index(purpose), *numbers) % 2**63)


def hashed(*numbers: int) -> int:
    """Make one seed, in [0, 2**64), of numbers that are at least 0 each."""
    # Hashing keeps neighbouring numbers apart, which their sum would not.
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return int(state)
