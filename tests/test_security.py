# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What docs/security.md promises, a test for each of its sentences that no other file tests."""

import csv
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from anomalib_ssl import cli
from anomalib_ssl.comparison.building import check
from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.specification import Specification
from anomalib_ssl.comparison.store import Outcome, Store, read_pictures

VICTIM = "../victim"


class Harmful:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def tree(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_checkpoints_run_no_code(tmp_path, capsys, write):
    path, made = tmp_path / "model.ckpt", tmp_path / "made"
    write({"state_dict": {}, "hyper_parameters": Harmful(made), "anomalib_ssl_model": "CutPaste"}, path)
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    assert cli.main(["inspect", str(tmp_path / "image.png"), "--ckpt_path", str(path)]) == 2
    assert "is no checkpoint" in capsys.readouterr().err
    assert not made.exists()


def test_pictures_run_no_code(tmp_path):
    path, made = tmp_path / "pictures.npz", tmp_path / "made"
    np.savez(path, maps=np.array([Harmful(made)], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_pictures(path)
    assert not made.exists()


@pytest.mark.parametrize("command", ["benchmark", "preview", "report"])
def test_yaml_names_no_python_object(tmp_path, capsys, command):
    made = tmp_path / "made"
    config = tmp_path / "config.yaml"
    config.write_text(f"benchmark: !!python/object/apply:os.mkdir ['{made}']\n", encoding="utf-8")
    extra = ["results.csv"] if command == "report" else []
    with pytest.raises(SystemExit) as raised:
        cli.main([command, *extra, "--config", str(config)])
    assert raised.value.code == 2
    assert not made.exists()


@pytest.mark.parametrize("path", ["os.mkdir", "subprocess.Popen", "anomalib_ssl.cli.main"])
def test_a_benchmark_builds_nothing_but_models_and_datamodules(path, tmp_path):
    with pytest.raises(ValueError, match=path):
        check([Specification({"class_path": path, "init_args": {"args": "x"}}, {"class_path": "MVTecAD"})])
    with pytest.raises(ValueError, match=path):
        check([Specification({"class_path": "Padim"}, {"class_path": path, "init_args": {"args": "x"}})])


def hostile_table(folder: Path) -> Store:
    """Results whose names point elsewhere and whose label is markup and a formula."""
    store = Store(folder / "results")
    for number, name in enumerate((f"{VICTIM}/one", str(folder / "victim/two"), "board_v1.2", "=1+1")):
        store.save(
            Outcome(
                Row(
                    job=f"{VICTIM}/{number}",
                    status="ok",
                    model="CutPaste",
                    dataset=name,
                    seed=0,
                    category=f"{VICTIM}/{name}",
                    label='=cmd|"/C calc"!A0 <script>alert(1)</script> $\\frac{',
                    image_AUROC=0.5,
                    pixel_AUROC=0.5,
                    images_per_second_1=1.0,
                    images_per_second_n=1.0,
                )
            )
        )
    return store


def test_a_report_stays_in_its_folder_and_is_inert(tmp_path):
    store = hostile_table(tmp_path)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/one.npz").write_bytes(b"not to be read")
    before = tree(tmp_path)
    assert cli.main(["report", str(store.table), "--output", str(tmp_path / "page")]) == 0
    after = tree(tmp_path)
    new = [path for path in after if path not in before]
    assert {path: after[path] for path in before} == before
    assert all(path.is_relative_to(tmp_path / "page") for path in new)
    assert len({path.name for path in new if "v1.2" in path.name and path.suffix == ".svg"}) > 1
    page = (tmp_path / "page/report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"(?<!\\)<script", (tmp_path / "page/report.md").read_text(encoding="utf-8"))
    assert 'src="http' not in page
    with (tmp_path / "page/summary.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not [cell for cell in cells if cell[:1] in ("=", "@", "\t")]
    assert any(cell.startswith("'=cmd") for cell in cells)


def test_a_benchmark_stays_in_its_folder(tmp_path, mvtec_root):
    """Names of data sets and categories come from its configuration."""
    arguments = {
        "name": f"{VICTIM}/logo",
        "root": str(mvtec_root / "plate"),
        "normal_dir": "train/good",
        "abnormal_dir": "test/spot",
        "normal_test_dir": "test/good",
        "num_workers": 0,
    }
    model = {"backbone": "resnet18", "pre_trained": False, "layers": ["layer3"], "n_features": 4}
    benchmark = {
        "model": {"class_path": "Padim", "init_args": model},
        "data": {"class_path": "Folder", "init_args": arguments},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"benchmark": benchmark, "throughput_batch_size": 0}), encoding="utf-8")
    folder = tmp_path / "a/b/out"
    assert cli.main(["benchmark", "--config", str(config), "--output", str(folder), "--accelerator", "cpu"]) == 0
    outside = [path for path in tree(tmp_path) if not path.is_relative_to(folder)]
    assert outside == [config]
    assert [row.dataset for row in Store(folder).rows()] == [f"{VICTIM}/logo"]


def test_the_startup_file_imports_nothing_else():
    startup = Path(__file__).parents[1] / "startup/anomalib_ssl.pth"
    line = next(line for line in startup.read_text(encoding="utf-8").splitlines() if line.startswith("import"))
    code = f"import os, sys; before = set(sys.modules); exec({line!r}); print(*sorted(set(sys.modules) - before))"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    result = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert result.stdout.split() == ["anomalib_ssl", "anomalib_ssl.startup"]


def test_nothing_of_the_package_asks_for_the_network():
    """No module imports what speaks to it."""
    words = ("urllib.request", "requests", "socket", "http.client", "huggingface_hub", "load_state_dict_from_url")
    for path in Path(cli.__file__).parent.rglob("*.py"):
        imports = [line for line in path.read_text(encoding="utf-8").splitlines() if "import " in line]
        assert not [line for line in imports for word in words if word in line], path
