# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a figure depends on besides the code: the machine, the versions, the commit, the command."""

import datetime
import os
import platform
import shlex
import sys
from pathlib import Path

import torch

from anomalib_ssl.comparison import environment

PACKAGES = ("torch", "torchvision", "kornia", "lightning", "timm", "pillow", "anomalib", "anomalib-ssl")


def describe_machine() -> dict[str, object]:
    """Describe the machine and everything installed that matters, as plain data."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": environment.commit(),
        "cpu": environment.processor(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{package: environment.installed(package) for package in PACKAGES},
    }


def default_devices() -> list[str]:
    """Name the devices to measure on where none are named: the CPU, and the GPU if there is one."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def default_device() -> str:
    """Name the device to train on: the GPU if there is one."""
    return default_devices()[-1]
