# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What a fresh process that knows nothing of this package sees of it: the evidence of ``anomalib-ssl doctor``.

The doctor runs this file's text with ``python -c``, so that nothing here imports ``anomalib_ssl`` before anomalib has
had the chance to find its models without. It prints one line of JSON, the last of its output.
"""

import json
import sys
import warnings
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

PACKAGE = "anomalib_ssl"


def probe() -> dict[str, Any]:
    """Import anomalib and look up the models of this package in every way anomalib does.

    Returns:
        Plain data: who ``registered`` the models, the ``error`` that importing anomalib ended with, the ``models`` with
        the result of each look-up, the ``messages`` of this package on the way, and the ``devices``.
    """
    report: dict[str, Any] = {"registered": registered_by(), "error": "", "models": {}}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            import anomalib.models  # noqa: F401, PLC0415

            if not report["registered"]:  # the start-up file did not run, or all is switched off: the other way then
                import anomalib_ssl  # noqa: F401, PLC0415

                report["registered"] = registered_by()
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what the user has to know
            report["error"] = f"{type(error).__name__}: {error}"
        else:
            report["models"] = {name: look_up(name) for name in model_names()}
    messages = [str(warning.message) for warning in caught]
    report["messages"] = [message for message in messages if message.startswith("anomalib-ssl")]
    report["devices"] = devices()
    return report


def registered_by() -> str:
    """Who has installed our import hook, or registered our models: empty if nobody has."""
    return str(getattr(sys.modules.get(f"{PACKAGE}.startup"), "installed_by", ""))


def model_names() -> list[str]:
    """Names of the models that this package promises."""
    try:
        return sorted(distribution("anomalib-ssl").entry_points.select(group="anomalib.models").names)
    except PackageNotFoundError:
        return []


def look_up(name: str) -> dict[str, str]:
    """Look a model up by its short name.

    Args:
        name: Short name, such as ``CutPaste``.

    Returns:
        For each way of looking, the import path of the class found; empty where there is none.
    """
    from anomalib import models  # noqa: PLC0415
    from anomalib.models.components import AnomalibModule  # noqa: PLC0415
    from jsonargparse import ArgumentError, ArgumentParser  # noqa: PLC0415

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibModule, "model", fail_untyped=False, required=True)
    try:
        short = parser.parse_args([f"--model={name}"]).model.class_path
    except ArgumentError:
        short = ""
    # get_model and list_models see direct subclasses only; of several with one name get_model takes the last.
    direct = [model for model in AnomalibModule.__subclasses__() if model.__name__.lower() == name.lower()]
    return {
        "command line": short,
        "get_model": path(direct[-1]) if direct else "",
        "anomalib.models": path(getattr(models, name)) if hasattr(models, name) else "",
    }


def path(model: object) -> str:
    """The import path of a class."""
    return f"{getattr(model, '__module__', '?')}.{getattr(model, '__qualname__', '?')}"


def devices() -> dict[str, str]:
    """Describe what PyTorch can compute on."""
    try:
        import torch  # noqa: PLC0415
    except Exception as error:  # noqa: BLE001
        return {"none": f"PyTorch cannot be imported: {type(error).__name__}: {error}"}
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    bf16 = sorted(name for name, present in capabilities.items() if "bf16" in name and present)
    found = {
        "cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"bf16 in hardware: {', '.join(bf16) or 'no'}",
    }
    for index in range(torch.cuda.device_count()):
        gpu = torch.cuda.get_device_properties(index)
        found[f"cuda:{index}"] = f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    if hasattr(torch, "xpu"):
        for index in range(torch.xpu.device_count()):
            found[f"xpu:{index}"] = torch.xpu.get_device_name(index)
    return found


if __name__ == "__main__":
    # `python -c` puts the current folder on the path, the `anomalib` command does not.
    sys.path = [entry for entry in sys.path if entry]
    print(json.dumps(probe()))  # noqa: T201
