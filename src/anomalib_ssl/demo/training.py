# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A short training of CutPaste through the ordinary anomalib engine."""

import warnings
from pathlib import Path

import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine

from anomalib_ssl.models import CutPaste


def train(
    root: Path,
    category: str,
    updates: int,
    image_size: int,
    batch_size: int,
    seed: int,
    output: Path,
    precision: str,
) -> tuple[dict[str, float], Path]:
    """Train and test, as any user of anomalib would.

    Args:
        root: Folder of a data set in MVTec layout.
        category: Its category.
        updates: Training budget in optimiser updates.
        image_size: Side in pixels to which images are resized.
        batch_size: Source images per update.
        seed: Seed of the training.
        output: Folder of anomalib's results.
        precision: Precision of the Trainer.

    Returns:
        anomalib's metrics by name, in [0, 1], and the folder of this run.
    """
    model = CutPaste(max_updates=updates, image_size=image_size, seed=seed)
    datamodule = MVTecAD(root=root, category=category, train_batch_size=batch_size, num_workers=0)
    engine = Engine(default_root_dir=output, precision=precision)
    with warnings.catch_warnings():
        # Worker processes would take longer to start than these few small images take to read.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        (metrics,) = engine.train(model=model, datamodule=datamodule)
    return dict(metrics), Path(engine.trainer.default_root_dir)


def fast_precision() -> str:
    """Precision for the Trainer: ``bf16-mixed`` where the device has instructions for it, else ``32-true``."""
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = not torch.backends.mps.is_available() and _cpu_has_bf16()
    return "bf16-mixed" if fast else "32-true"


def _cpu_has_bf16() -> bool:
    """Whether the CPU multiplies in bfloat16 by itself; emulating it is slower than single precision."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(bool(present) for name, present in capabilities.items() if "bf16" in name)
