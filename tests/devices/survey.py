# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Run everything on the stand-in device, in a process of its own: prints what went wrong and what waited, as JSON.

``python survey.py DATA FOLDER``, DATA with the category that the contract test trains on.
"""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stand_in
import torch
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_ssl import augmentations

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import test_contract as contract


def itself() -> dict[str, Any]:
    """Whether the device notices what it is there for."""
    device = torch.device(stand_in.NAME)
    there, here = torch.arange(6.0, device=device).view(2, 3), torch.arange(6.0).view(2, 3)
    there.add_(1)
    weights = torch.ones(3, device=device, requires_grad=True)
    (there @ weights).sum().backward()
    try:
        there + here
        mixed = "nothing"
    except RuntimeError as error:
        mixed = str(error)
    found = augmentations.Symmetries()  # Its code stands in for any of the package that reads a value.
    stand_in.PACKAGE, package = "devices/", stand_in.PACKAGE
    float(there.sum()), there.cpu(), there[there > 2], there.to("cpu", non_blocking=True), found
    stand_in.PACKAGE = package
    noted = [wait.split(" in ")[0] for wait in stand_in.waits]
    return {
        "device": str(there.device),
        "gradient": weights.grad.cpu().tolist(),
        "mixed": mixed,
        "noted": noted,
        "same": torch.equal(there.cpu(), here + 1),
    }


def augmentation(name: str) -> dict[str, Any]:
    """Draw parameters and apply them on the device; apply the same on the CPU."""
    augment = getattr(augmentations, name)()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    there = images.to(stand_in.NAME)
    parameters = augment.sample(there.shape, there.device, torch.Generator(stand_in.NAME).manual_seed(0))
    result = augment.apply(there, parameters)
    waits = list(stand_in.waits)
    expected = augment.apply(images, {key: value.cpu() for key, value in parameters.items()})
    return {
        "devices": sorted({str(part.device) for part in result}),
        "waits": waits,
        "difference": max(
            float((part.cpu().float() - own.float()).abs().max()) for part, own in zip(result, expected, strict=True)
        ),
    }


class Watch(Callback):
    """Note what waits in training updates, and on which devices they compute."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.first: list[str] = []
        self.devices: set[str] = set()

    def on_train_batch_start(self, *_: Any) -> None:
        """Look from here."""
        stand_in.waits.clear()

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        """Look until here."""
        (self.first if trainer.global_step == 1 else self.waits).extend(stand_in.waits)
        self.devices |= {str(values.device) for values in [*module.parameters(), *module.buffers()]}


def model(name: str, data: Path, folder: Path) -> dict[str, Any]:
    """Train and test a model with anomalib's engine."""
    watch = Watch()
    engine = Engine(
        strategy=stand_in.strategy(),
        callbacks=[watch],
        default_root_dir=folder / name,
        logger=False,
        enable_progress_bar=False,
        inference_mode=False,  # Such tensors do not wrap others.
    )
    built = contract.build(name)
    engine.fit(built, datamodule=contract.plate(data))
    stand_in.waits.clear()
    results = engine.test(built, datamodule=contract.plate(data), verbose=False)
    return {
        "devices": sorted(watch.devices),
        "first update": sorted(set(watch.first)),
        "training": sorted(set(watch.waits)),
        "scoring": sorted(set(stand_in.waits)),
        "results": {key: float(value) for key, value in results[0].items()},
    }


def looked_at(look: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What a look gives, or the error."""
    stand_in.waits.clear()
    try:
        return look(*args)
    except Exception:  # noqa: BLE001  whatever it is belongs into the survey
        return {"error": traceback.format_exc()}


def main(data: Path, folder: Path) -> None:
    """Look at everything."""
    stand_in.register()
    names = [name for name in augmentations.__all__ if _is_complete(getattr(augmentations, name))]
    found = {
        "itself": looked_at(itself),
        "augmentations": {name: looked_at(augmentation, name) for name in names},
        "models": {name: looked_at(model, name, data, folder) for name in contract.MODELS},
    }
    (folder / "survey.json").write_text(json.dumps(found))


def _is_complete(kind: Any) -> bool:
    abstract = getattr(kind, "__abstractmethods__", True)
    return isinstance(kind, type) and issubclass(kind, augmentations.Augmentation) and not abstract


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
