# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The command that trains on generated images."""

import re
import shlex
from pathlib import Path

import pytest
from anomalib.cli.cli import AnomalibCLI

from anomalib_ssl.commands import demo as module
from anomalib_ssl.commands.demo import demo, fast_precision
from anomalib_ssl.demo import SURFACES


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surface": "cheese"}, "surface must be one of .*fabric.*'cheese'"),
        ({"updates": 0}, "updates must .*1.*0"),
        ({"image_size": 16}, "image_size must .*32.*16"),
        ({"image_size": 64.5}, "image_size must be a whole number.*64.5"),
        ({"batch_size": 1}, "batch_size must .*2.*1"),
        ({"seed": -1}, "seed must .*0.*-1"),
        ({"seed": 2**32}, "seed must .*4294967296"),
        ({"output": Path(__file__)}, "output must be a folder that can be written.*test_demo.py"),
        ({"keep_data": Path(__file__)}, "keep_data must be a folder that can be written.*test_demo.py"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_drawn(
    arguments: dict[str, object],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "write_dataset", lambda *_, **__: pytest.fail("something was drawn"))
    with pytest.raises((TypeError, ValueError), match=message):
        demo(**{"keep_data": tmp_path / "data", "output": tmp_path / "results"} | arguments)


def test_help_names_every_surface() -> None:
    assert re.search("surface: What to draw: (.*)", demo.__doc__).group(1) == "fabric, leather, metal, tile or wood."
    assert list(SURFACES) == ["fabric", "leather", "metal", "tile", "wood"]


def test_precision_is_one_the_trainer_knows() -> None:
    assert fast_precision() in {"bf16-mixed", "32-true"}


@pytest.mark.slow
def test_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    data, output = tmp_path / "my data", tmp_path / "results"
    demo(surface="metal", updates=10, image_size=64, batch_size=8, keep_data=data, output=output)
    printed = capsys.readouterr().out
    auroc = float(re.search(r"image AUROC\s+│\s+([\d.]+) %", printed).group(1))
    assert auroc > 55
    heat_maps = Path(re.search("Heat maps: (.*)", printed).group(1))
    assert {path.name for path in heat_maps.iterdir()} == {"good", *SURFACES["metal"].defects}
    assert Path(re.search("Checkpoint: (.*)", printed).group(1)).is_file()
    assert (data / "metal" / "train" / "good" / "000.png").is_file()
    for line in re.findall("^anomalib train .*", printed, flags=re.MULTILINE):
        words = shlex.split(line)
        options = AnomalibCLI(args=words[1:], run=False).config
        assert options.train.model.init_args.max_updates == 10
        assert str(options.train.data.init_args.root) in {str(data), "DIR"}
