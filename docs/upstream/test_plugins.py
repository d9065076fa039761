# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Tests of entry-points.patch, for tests/unit/models of anomalib."""

from importlib.metadata import EntryPoint

import pytest
from anomalib import models
from anomalib.models import AnomalibModule, Padim, get_model, list_models
from jsonargparse import ArgumentParser

PLUGIN = """
import torch
from anomalib import LearningType
from anomalib.models import AnomalibModule

class {name}(AnomalibModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = torch.nn.Identity()

    trainer_arguments = {{}}
    learning_type = LearningType.ONE_CLASS
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Write a module with a model, and load it as an installed distribution's entry point."""

    def write_and_load(name, source=PLUGIN):
        (tmp_path / f"plugin_{name}.py").write_text(source.format(name=name))
        found = [EntryPoint(name, f"plugin_{name}:{name}", "anomalib.models")]
        monkeypatch.setattr(models, "entry_points", lambda group: found if group == "anomalib.models" else [])
        models._load_plugins()

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(models, "__all__", [*models.__all__])
    return write_and_load


def test_a_plugin_is_found_in_all_three_ways(load):
    load("Tiny")
    # By get_model and list_models, which look at the direct subclasses.
    assert "tiny" in list_models()
    assert type(get_model("tiny")).__name__ == "Tiny"
    # By anomalib benchmark, which looks at the module.
    assert type(get_model({"class_path": "Tiny"})).__name__ == "Tiny"
    assert "Tiny" in models.__all__
    # By anomalib train, where jsonargparse looks at what has been imported.
    parser = ArgumentParser()
    parser.add_subclass_arguments(AnomalibModule, "model")
    assert parser.parse_args(["--model=Tiny"]).model.class_path == "plugin_Tiny.Tiny"


@pytest.mark.parametrize("name", ["Padim", "padim", "get_model", "AnomalibModule"])
def test_a_name_that_is_taken_stays(load, name, caplog):
    before = getattr(models, name, None)
    load(name)
    assert f"Model {name} of plugin_{name}:{name} is left out" in caplog.text
    assert getattr(models, name, None) is before
    assert type(get_model("padim", pre_trained=False)) is Padim


def test_a_broken_plugin_is_left_out(load, caplog):
    load("Broken", "import there_is_no_such_module")
    assert "Model Broken of plugin_Broken:Broken cannot be imported: ModuleNotFoundError" in caplog.text
    assert not hasattr(models, "Broken")
