# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The command line around the subcommands, with a stand-in for one of them."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from anomalib_ssl import __version__, cli


def preview(images: Path, rows: int = 4, seed: int = 0) -> Path:
    """Stand in for a subcommand.

    Args:
        images: Where the images are.
        rows: How many of them.
        seed: Which of them.

    Returns:
        The picture.
    """
    if rows < 1:
        msg = f"rows must be at least 1, not {rows}"
        raise ValueError(msg)
    if seed < 0:
        raise {-1: KeyboardInterrupt(), -2: SystemExit(None), -3: SystemExit(1)}[seed]
    images.read_bytes()
    return Path(f"{images.stem}-{rows}-{seed}.png")


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("anomalib_ssl.commands.preview")
    module.preview = preview  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "anomalib_ssl.commands.preview", module)
    monkeypatch.setitem(cli.COMMANDS, "vanished", "Is not there.")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_flags_and_yaml_mean_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.touch()
    options = tmp_path / "options.yaml"
    options.write_text(f"images: {image}\nrows: 2\n")
    assert run(capsys, "preview", "--images", str(image), "--rows=2") == (0, "image-2-0.png\n", "")
    assert run(capsys, "preview", "--config", str(options)) == (0, "image-2-0.png\n", "")
    assert run(capsys, "preview", "--config", str(options), "--rows", "3") == (0, "image-3-0.png\n", "")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--images", "nowhere.png"], 2, "No such file or directory: 'nowhere.png'"),
        (["--images", "x", "--rows", "0"], 2, "rows must be at least 1, not 0"),
        (["--images", "x", "--seed=-1"], 130, "interrupted"),
        (["--images", "x", "--seed=-2"], 130, "interrupted"),
        (["--images", "x", "--seed=-3"], 130, "interrupted"),
    ],
)
def test_errors_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    actual, out, err = run(capsys, "preview", *arguments)
    assert (actual, out, err.count("\n")) == (code, "", 1)
    assert err.startswith("anomalib-ssl: error: ")
    assert message in err


def test_wrong_options_and_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "preview", "--rows=many")[0] == 2
    assert run(capsys, "preview")[0] == 2
    assert run(capsys, "bogus")[0] == 2
    assert run(capsys)[0] == 2
    code, _, err = run(capsys, "vanished")
    assert (code, err.count("\n")) == (2, 1)
    assert "anomalib_ssl.commands.vanished" in err


def test_errors_of_long_work_come_with_their_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "PATIENCE", 0.0)
    code, _, err = run(capsys, "preview", "--images", "x", "--rows", "0")
    assert code == 2
    assert "in preview" in err
    assert err.endswith("anomalib-ssl: error: rows must be at least 1, not 0\n")


def test_options_may_be_written_with_dashes() -> None:
    """Only names change, never values."""
    underscored = [cli._underscored(argument) for argument in ("demo", "--keep-data", "a-b", "--image-size=x-y", "-c")]
    assert underscored == ["demo", "--keep_data", "a-b", "--image_size=x-y", "-c"]


def test_switches_need_no_value() -> None:
    def function(resume: bool = False, rows: int = 1) -> None:
        """Do nothing."""

    given = ["run", "--resume", "--rows", "2", "--resume", "false", "--resume"]
    expected = ["run", "--resume=true", "--rows", "2", "--resume", "false", "--resume=true"]
    assert cli._with_switches(given, function) == expected
    assert cli._with_switches(["run", "--resume", "file.ckpt"], function) == ["run", "--resume=true", "file.ckpt"]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"anomalib-ssl {__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert (code, all(name in out for name in ("benchmark", "demo", "doctor", "inspect", "preview", "report"))) == (
        0,
        True,
    )
    code, out, _ = run(capsys, "preview", "--help")
    assert (code, "Where the images are." in out) == (0, True)
