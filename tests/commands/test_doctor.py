# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the doctor makes of the evidence. How it gets the evidence is tested in ``registration/test_doctor.py``."""

from typing import Any

import pytest

from anomalib_ssl import startup
from anomalib_ssl.commands import doctor

OURS = "anomalib_ssl.models.cutpaste.lightning_model.CutPaste"
WELL = {"command line": OURS, "get_model": OURS, "anomalib.models": OURS}


def report(**changes: Any) -> dict[str, Any]:
    well = {"registered": startup.STARTUP_FILE, "error": "", "models": {"CutPaste": WELL}, "messages": []}
    return {**well, "devices": {"cpu": "2 threads"}, **changes}


@pytest.mark.parametrize(
    ("evidence", "problems"),
    [
        (report(), []),
        (report(error="ImportError: broken"), ["anomalib cannot be imported: ImportError: broken"]),
        (report(registered=""), [f"switched off by {startup.SWITCH}"]),
        (report(registered="import anomalib_ssl"), ["did not run our start-up file"]),
        (report(models={}), ["names no model"]),
        (
            report(
                models={"CutPaste": WELL | {"get_model": "anomalib.models.CutPaste"}}, messages=["left to anomalib"]
            ),
            ["left to anomalib", "CutPaste is not what anomalib finds by get_model (anomalib.models.CutPaste)."],
        ),
        (
            report(models={"CutPaste": WELL | {"command line": ""}}),
            ["CutPaste is not what anomalib finds by command line (nothing)."],
        ),
    ],
)
def test_every_problem_is_named(evidence: dict[str, Any], problems: list[str]) -> None:
    found = doctor.problems_of(evidence)
    assert len(found) == len(problems)
    assert all(expected in actual for expected, actual in zip(problems, found, strict=True))


def test_exit_code_and_reason(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "required_packages", lambda: [doctor.Package("torch", "2.10", ">=2.10")])
    monkeypatch.setattr(doctor, "run_probe", report)
    assert doctor.doctor() == 0
    assert "finds every model" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "run_probe", lambda: report(models={"CutPaste": WELL | {"get_model": ""}}))
    assert doctor.doctor() == 1
    assert "not what anomalib finds by get_model" in capsys.readouterr().out


def test_foreign_text_is_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """``[/x]`` closes a tag that was never opened: Rich would raise."""
    strange = "[/x] [red]"
    packages = [doctor.Package(strange, strange, strange, strange)]
    monkeypatch.setattr(doctor, "required_packages", lambda: packages)
    found = report(models={strange: WELL | {"get_model": strange}}, devices={strange: strange}, messages=[strange])
    monkeypatch.setattr(doctor, "run_probe", lambda: found | {"registered": strange})
    assert doctor.doctor() == 1
    assert capsys.readouterr().out.count(strange) >= 8


def test_versions_are_compared_with_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {package.name: package for package in doctor.required_packages()}
    assert {"python", "anomalib-ssl", "anomalib", "torch", "kornia", "onnx", "openvino"} <= set(packages)
    assert "pytest" not in packages
    assert not [package.problem for package in packages.values() if package.problem]

    installed = {"anomalib": "2.6.0", "torch": "2.15.0+cpu", "kornia": "0.9.0rc1"}

    def version(name: str) -> str:
        if name not in installed:
            raise doctor.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(doctor, "version", version)
    problems = {package.name: package.problem for package in doctor.required_packages() if package.problem}
    assert problems.pop("anomalib").startswith("anomalib 2.6.0 is installed, ")
    assert problems.pop("lightning") == "lightning is not installed."
    assert not {"torch", "kornia", "onnx", "openvino"} & set(problems)


def test_a_probe_that_dies_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "probe.py").write_text("raise SystemExit('killed')")
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "doctor.py"))
    assert doctor.problems_of(doctor.run_probe()) == [
        "anomalib cannot be imported: a fresh Python process failed with exit code 1: killed",
    ]
