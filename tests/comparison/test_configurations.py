# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The files of ``configs/benchmark`` through anomalib's own benchmark, with little training on little data."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from anomalib.models import get_model
from anomalib.pipelines import Benchmark
from anomalib.pipelines.benchmark import generator
from anomalib.pre_processing import PreProcessor
from jsonargparse import Namespace
from torchvision.transforms.v2 import Resize

from anomalib_ssl.comparison.building import check
from anomalib_ssl.comparison.specification import specifications
from anomalib_ssl.report.reading import read_results

CONFIGS = sorted((Path(__file__).parents[2] / "configs/benchmark").glob("*.yaml"))
STOCK = ("mvtec_all", "mvtec_st_ssad", "smoke", "visa")
"""Configurations that anomalib's own command can run; the others say that they need this package's."""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_job_can_be_built(path):
    jobs = specifications(yaml.safe_load(path.read_text(encoding="utf-8"))["benchmark"])
    check(jobs)
    expected = {
        "mvtec_all": 7 * 15,
        "mvtec_st_ssad": 15,
        "visa": 7 * 12,
        "smoke": 2,
        "cpu": 25 * 3,
    }
    assert len(jobs) == expected[path.stem]


def test_checking_leaves_settings_as_they_are():
    """Transforms in a list, too: job names and tables are made of what was given."""
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == "cpu").read_text(encoding="utf-8"))
    jobs = [job for job in specifications(config["benchmark"]) if "pre_processor" in job.model_args]
    given = [(job.name, repr(job)) for job in jobs]
    check(jobs)
    assert given == [(job.name, repr(job)) for job in jobs]
    assert jobs


@pytest.fixture
def stock(tmp_path, monkeypatch, mvtec_root, tiny):
    """Run a configuration with anomalib's benchmark: one category, small models, the CPU; return its table."""

    def small(entry):
        model = get_model(entry, **entry.get("init_args", {}) | tiny[entry["class_path"]])
        if entry["class_path"] in ("Padim", "Patchcore"):
            model.pre_processor = PreProcessor(Resize((64, 64)))
        return model

    def run(name):
        config = yaml.safe_load(next(path for path in CONFIGS if path.stem == name).read_text(encoding="utf-8"))
        data = config["benchmark"]["data"]["init_args"]
        if isinstance(data["category"], dict):
            data["category"]["grid"] = data["category"]["grid"][:1]
            categories = data["category"]["grid"]
        else:
            categories = [data["category"]]
        # VisA is read from where anomalib puts it once it has split it, in the layout of MVTec AD.
        target = tmp_path / "data" / ("visa_pytorch" if name == "visa" else "")
        for category in categories:
            shutil.copytree(mvtec_root / "plate", target / category)
            if name == "visa":
                for folder in ("test", "ground_truth"):
                    (target / category / folder / "spot").rename(target / category / folder / "bad")
        data |= {"root": str(tmp_path / "data"), "num_workers": 0, "train_batch_size": 4}
        config["accelerator"] = "cpu"
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        monkeypatch.setattr(generator, "get_model", small)
        monkeypatch.chdir(tmp_path)
        Benchmark().run(Namespace(config=str(path)))
        (table,) = tmp_path.glob("runs/benchmark/*/results.csv")
        return table

    return run


@pytest.mark.parametrize("name", STOCK)
def test_configuration_runs_with_the_stock_command(name, stock):
    """And the table it writes can be reported."""
    table = stock(name)
    frame = pd.read_csv(table)
    config = yaml.safe_load(next(path for path in CONFIGS if path.stem == name).read_text(encoding="utf-8"))[
        "benchmark"
    ]
    entries = config["model"].get("grid")
    models = {entry["class_path"] for entry in entries} if entries else {config["model"]["class_path"]}
    assert set(frame["model.class_path"]) == models
    assert len(frame) == (2 if name == "smoke" else len(models))
    rows = [result.row for result in read_results([table])]
    assert {row.model for row in rows} == models
    assert {row.dataset for row in rows} == {config["data"]["class_path"]}
    for row, image, pixel in zip(rows, frame["image_AUROC"], frame["pixel_AUROC"], strict=True):
        assert (row.image_AUROC, row.pixel_AUROC, row.image_AUPR) == (pytest.approx(image), pytest.approx(pixel), None)
        assert (row.seed, row.status, row.accelerator) == (0, "ok", "cpu")
    if name == "smoke":
        assert {row.resolution for row in rows} == {"64x64"}, "as the table says"
        assert {row.budget for row in rows} == {"20 updates"}
