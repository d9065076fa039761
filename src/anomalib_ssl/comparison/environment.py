# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a result depends on besides its settings: versions, device, commit."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = {"anomalib": "anomalib", "anomalib_ssl": "anomalib-ssl", "torch": "torch"}
"""Columns of a row, and the distributions whose versions stand there."""


@lru_cache
def versions() -> dict[str, Any]:
    """Collect versions and the commit by the columns of a row."""
    return {column: installed(name) for column, name in PACKAGES.items()} | {
        "python": platform.python_version(),
        "commit": commit(),
    }


def device_name(device: torch.device) -> str:
    """Name the GPU or the processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor()}, {threads} thread{'' if threads == 1 else 's'}"


def processor() -> str:
    """Name the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines() if cpuinfo.is_file() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def commit() -> str | None:
    """Name the commit of this package's repository, with ``+`` if files were changed; None if there is no such."""
    here = Path(__file__)
    # An environment may lie inside the repository of something else.
    if _git("ls-files", "--error-unmatch", here.name) is None:
        return None
    changed = _git("status", "--porcelain", "--untracked-files=no", ":/")
    return f"{_git('rev-parse', '--short=12', 'HEAD')}{'+' if changed else ''}"


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
