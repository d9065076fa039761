# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The configuration files against the command line that reads them."""

from pathlib import Path

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.models import get_model

from anomalib_ssl.scoring import grid_size

CONFIGS = Path(__file__).parents[1] / "configs"


def as_lists(value):
    """Turn tuples, which YAML does not know, into lists."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    return [as_lists(item) for item in value] if isinstance(value, tuple | list) else value


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("path", sorted((CONFIGS / "model").glob("*.yaml")), ids=lambda path: path.stem)
def test_model_configuration_builds_the_model_it_describes(path):
    cli = AnomalibCLI(args=["train", "--config", str(path), "--data", "MVTecAD"], run=False)
    described = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    assert type(cli.model).__name__ == described["class_path"].rpartition(".")[2]
    for name, value in described["init_args"].items():
        if name == "pre_processor":
            continue  # no plain data, so no hyper-parameter
        built = cli.model.hparams[name]
        # An augmentation takes its defaults for what a mapping leaves out.
        assert as_lists({key: built[key] for key in value} if isinstance(value, dict) else built) == value


@pytest.mark.parametrize("name", ["cutpaste", "nsa", "ssm", "autoencoder_projection", "dynamic_local_augmentation"])
def test_the_configuration_with_the_practical_budget_scores_as_the_model_does_by_default(name):
    described = yaml.safe_load((CONFIGS / f"model/{name}.yaml").read_text(encoding="utf-8"))["model"]["init_args"]
    default = get_model(name).hparams
    assert (described["score"], described["heat_map"]) == (default["score"], default["heat_map"])


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("path", sorted((CONFIGS / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_benchmark_configuration_names_models_that_get_model_knows(path):
    model = yaml.safe_load(path.read_text(encoding="utf-8"))["benchmark"]["model"]
    for entry in model.get("grid", [model]):
        arguments = {
            name: value["grid"][0] if isinstance(value, dict) else value
            for name, value in entry.get("init_args", {}).items()
            if name != "pre_processor"  # get_model takes an object
        }
        described = {"class_path": entry["class_path"], "init_args": arguments}
        assert type(get_model(described)).__name__ == entry["class_path"]


@pytest.mark.usefixtures("no_download")
def test_configurations_of_the_paper_say_what_it_says():
    def build(name):
        flags = ["--config", str(CONFIGS / f"model/{name}.yaml"), "--data", "MVTecAD"]
        return AnomalibCLI(args=["train", *flags], run=False).model

    transfer = build("cutpaste_efficientnet_b4")
    names = ("cutpaste_paper", "cutpaste_3way", "cutpaste_binary")
    for model in (transfer, *map(build, names)):
        assert model.model.scorer.chosen == ("density", "gradcam")
    for name in (*names, "cutpaste_efficientnet_b4", "cutpaste_patch", "dynamic_local_augmentation_paper", "ssm_128"):
        model = build(name)
        assert not model.equal_exposure
        assert model.hparams["held_out_share"] == 0
        assert model.hparams.get("optimizer", "sgd") == "sgd"
    assert build("dynamic_local_augmentation_paper").model.scorer.chosen == ("distance_max", "distance")
    assert transfer.hparams["max_updates"] - transfer.hparams["freeze_updates"] == 64 * 256
    assert transfer.model.backbone.num_scored_features == 272
    assert transfer.model.freeze_batch_norm
    assert len(build("cutpaste_ensemble").model.members) == 5
    assert build("cutpaste_binary").views.num_classes == 2
    assert build("cutpaste_3way").views.num_classes == 3
    # Appendix A.5: a grid of 57 x 57 windows.
    model = build("cutpaste_patch")
    assert grid_size(model.size, model.model.window_size, model.model.stride) == (57, 57)
