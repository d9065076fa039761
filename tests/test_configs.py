# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The configuration files against the command line that reads them."""

from pathlib import Path

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.models import get_model

CONFIGS = Path(__file__).parents[1] / "configs"


def as_lists(value):
    """Turn tuples, which YAML does not know, into lists."""
    return [as_lists(item) for item in value] if isinstance(value, tuple | list) else value


@pytest.mark.parametrize("path", sorted((CONFIGS / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_model_configuration_builds_the_model_it_describes(path):
    cli = AnomalibCLI(args=["train", "--config", str(path), "--data", "MVTecAD"], run=False)
    described = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    assert type(cli.model).__name__ == described["class_path"].rpartition(".")[2]
    for name, value in described["init_args"].items():
        assert as_lists(cli.model.hparams[name]) == value


@pytest.mark.parametrize("path", sorted((CONFIGS / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_benchmark_configuration_names_models_that_get_model_knows(path):
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["benchmark"]["model"]
    arguments = {
        name: value["grid"][0] if isinstance(value, dict) else value for name, value in model["init_args"].items()
    }
    assert type(get_model({"class_path": model["class_path"], "init_args": arguments})).__name__ == model["class_path"]
