# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Our model in the real anomalib: every look-up, from an ordinary process. Each process takes its ten seconds."""

import json
from pathlib import Path
from types import SimpleNamespace

LOOK_UPS = """
import sys
{first}
import anomalib.models as models
from anomalib.models import get_model, list_models
from anomalib.models.components import AnomalibModule

assert models.CutPaste.__module__.startswith("anomalib_ssl.models.")
assert models.__all__.count("CutPaste") == 1
assert "cut_paste" in list_models()
assert AnomalibModule in models.CutPaste.__bases__
assert [model.__name__ for model in AnomalibModule.__subclasses__()].count("CutPaste") == 1
assert type(get_model("cutpaste")) is type(get_model("cut_paste")) is models.CutPaste
assert type(get_model({{"class_path": "CutPaste"}})) is models.CutPaste
assert type(get_model("ssm")) is type(get_model({{"class_path": "SSM"}})) is models.SSM
assert type(get_model("stssad")) is type(get_model("st_ssad")) is models.STSSAD
assert not any("ssl" in module for module in models.ALLOWED_MODULES)
assert not any(type(finder).__module__ == "anomalib_ssl.startup" for finder in sys.meta_path)

import anomalib_ssl
names = ["AutoencoderProjection", "CutPaste", "CutPastePatch", "DynamicLocalAugmentation", "NSA", "SSM", "STSSAD"]
assert anomalib_ssl.register() == anomalib_ssl.register() == names
assert models.__all__.count("CutPaste") == 1
assert anomalib_ssl.CutPaste is models.CutPaste
"""
COMMAND_LINE = """
from anomalib.cli.cli import AnomalibCLI
AnomalibCLI(args=["train", "--model", "CutPaste", "--data", "MVTecAD", "--print_config"])
"""
SPAWN = """
import multiprocessing

def look_up():
    from anomalib.models import CutPaste, list_models
    return "cut_paste" in list_models(), CutPaste.__name__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.apply(look_up))
"""


def succeeds(result: SimpleNamespace) -> None:
    assert result.returncode == 0, result.stderr
    assert "anomalib-ssl" not in result.stderr


def test_the_wheel_is_found_by_every_look_up_and_on_the_command_line(wheel: SimpleNamespace) -> None:
    result = wheel.run(LOOK_UPS.format(first="") + COMMAND_LINE)
    succeeds(result)
    line = next(line for line in result.stdout.splitlines() if "CutPaste" in line)
    assert line.strip() == "class_path: anomalib_ssl.CutPaste"


def test_an_editable_install_is_found_by_every_look_up(editable: SimpleNamespace) -> None:
    succeeds(editable.run(LOOK_UPS.format(first="from anomalib.engine import Engine"), "-I"))


def test_importing_our_model_first_is_fine(wheel: SimpleNamespace) -> None:
    succeeds(wheel.run(LOOK_UPS.format(first="import anomalib_ssl.models.cutpaste"), "-E"))


def test_spawned_workers_see_the_model(wheel: SimpleNamespace, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SPAWN)
    result = wheel.execute(script)
    succeeds(result)
    assert result.stdout.splitlines()[-1] == "True CutPaste"


def test_loading_the_models_package_loads_no_model(wheel: SimpleNamespace) -> None:
    # Else one model that cannot be imported, or that gives way to anomalib's, would take the others with it.
    code = (
        "import json, sys, anomalib_ssl.models as m; print(json.dumps(['torch' in sys.modules, 'CutPaste' in dir(m)]))"
    )
    assert json.loads(wheel.run(code).stdout) == [False, True]
