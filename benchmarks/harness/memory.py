# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Peak memory of tensors during a call."""

import json
import os
import tempfile
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

CPU = 0
"""Number of the CPU among the profiler's types of devices."""

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler would report each of its starts and stops


def peak_over_output(call: Callable[[], object], device: torch.device | str) -> float:
    """Peak memory during a call, as a multiple of what it returns: 1 where nothing but the result is ever allocated.

    Args:
        call: Returns tensors, in any nesting.
        device: Where they are.
    """
    output = sum(leaf.nbytes for leaf in tree_leaves(call()) if isinstance(leaf, torch.Tensor))
    return peak_memory(call, device) / output


def peak_memory(call: Callable[[], object], device: torch.device | str) -> int:
    """Largest number of bytes that a call holds in tensors at once, beyond what was there before.

    On a GPU this is what PyTorch's allocator counts; on a CPU the running sum of the allocations and releases that
    PyTorch's profiler records, temporary memory inside operators and compiled code included. What numpy and PIL
    allocate is in neither.

    Args:
        call: What to watch. Called once; its result is kept until the peak is known.
        device: Where its tensors are.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recording:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recording.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = [event for event in events if event.get("name") == "[memory]" and event["args"]["Device Type"] == CPU]
    changes.sort(key=lambda event: event["ts"])
    return max(accumulate((event["args"]["Bytes"] for event in changes), initial=0))
