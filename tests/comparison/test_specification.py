# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From YAML to jobs."""

from copy import deepcopy
from dataclasses import replace

import pytest
import timm
from anomalib.pipelines.components.utils import get_iterator_from_grid_dict

from anomalib_ssl.comparison.building import build, check
from anomalib_ssl.comparison.specification import Specification, expand, specifications
from anomalib_ssl.file_names import safe_name

DATA = {"class_path": "MVTecAD", "init_args": {"root": "here", "category": {"grid": ["bottle", "tile"]}}}


def test_grids_mean_what_they_mean_to_anomalib():
    container = {
        "seed": {"grid": [1, 2]},
        "model": {"grid": [{"class_path": "Padim"}, {"class_path": "Patchcore"}]},
        "data": {"class_path": "MVTecAD", "init_args": {"category": {"grid": ["bottle", "tile"]}, "root": "x"}},
    }
    ours = list(expand(container))
    theirs = list(get_iterator_from_grid_dict(deepcopy(container)))
    assert len(ours) == 8
    assert all(ours.count(combination) == 1 for combination in theirs)


def test_grids_within_entries_and_names_that_contain_grid():
    """Stock anomalib takes any key that contains ``grid`` for a grid, and no grid within the entries of another one."""
    value = {"grid": [{"grid_size": 3, "variant": {"grid": ["a", "b"]}}, {"other": [1, 2]}]}
    assert list(expand(value)) == [
        {"grid_size": 3, "variant": "a"},
        {"grid_size": 3, "variant": "b"},
        {"other": [1, 2]},
    ]


def test_models_with_settings_and_seeds_of_their_own():
    benchmark = {
        "seed": [0, 1],
        "trainer": {"precision": "bf16-mixed", "max_epochs": 2},
        "model": {
            "grid": [
                {"class_path": "CutPaste", "init_args": {"variant": {"grid": ["3way", "union"]}, "seed": 7}},
                {
                    "class_path": "anomalib.models.Padim",
                    "label": "PaDiM",
                    "seed": 5,
                    "trainer": {"precision": "32-true"},
                    "data": {"train_batch_size": 3},
                    "pretrained": True,
                },
            ]
        },
        "data": DATA,
    }
    jobs = specifications(benchmark, "cuda")
    assert len(jobs) == len({job.name for job in jobs}) == 2 * (2 * 2 + 1)
    assert [job.category for job in jobs] == ["bottle"] * 5 + ["tile"] * 5
    first, padim = jobs[1], jobs[4]
    assert (first.model_args, first.seed) == ({"variant": "3way", "seed": 1}, 1)
    assert first.trainer == {"precision": "bf16-mixed", "max_epochs": 2}
    assert (padim.model_class, padim.seed, padim.label, padim.pretrained) == ("Padim", 5, "PaDiM", True)
    assert padim.trainer == {"precision": "32-true", "max_epochs": 2}
    assert padim.data_args == {"root": "here", "category": "bottle", "train_batch_size": 3}
    assert "train_batch_size" not in first.data_args
    assert all(job.accelerator == "cuda" for job in jobs)


def test_overrides():
    jobs = specifications({"model": {"class_path": "Padim"}, "data": DATA}, "cpu", "there", ["carpet"], [3, 4])
    assert [(job.category, job.data_args["root"], job.seed) for job in jobs] == [
        ("carpet", "there", 3),
        ("carpet", "there", 4),
    ]


def test_all_categories_of_a_root(tmp_path):
    for folder in ("b/train/good", "b/ground_truth/x", "a/train/good", "a/ground_truth/x", "c/train/good", "d"):
        (tmp_path / folder).mkdir(parents=True)
    jobs = specifications({"model": {"class_path": "Padim"}, "data": DATA}, "cpu", str(tmp_path), "all")
    assert list(dict.fromkeys(job.category for job in jobs)) == ["a", "b"], "those with masks"
    with pytest.raises(ValueError, match="categories='all' needs a root with folders"):
        specifications({"model": {"class_path": "Padim"}, "data": DATA}, "cpu", str(tmp_path / "c"), "all")


def test_names_tell_settings_apart_but_not_where_the_data_are():
    base = Specification(
        {"class_path": "Padim"}, {"class_path": "MVTecAD", "init_args": {"root": "a", "category": "b"}}
    )
    moved = Specification(
        {"class_path": "anomalib.models.Padim"}, {**base.data, "init_args": {"root": "c", "category": "b"}}
    )
    assert base.name == moved.name
    others = [
        Specification(base.model, base.data, seed=1),
        Specification(base.model, base.data, accelerator="cuda"),
        Specification(base.model, base.data, trainer={"max_epochs": 1}),
        Specification({**base.model, "init_args": {"n_features": 3}}, base.data),
        Specification(base.model, {**base.data, "init_args": {"category": "d"}}),
    ]
    assert len({base.name, *(other.name for other in others)}) == 6
    assert Specification(base.model, base.data, label="x", pretrained=True).name == base.name, "what reports say"


def test_names_are_safe_as_those_of_files():
    data = {"class_path": "Folder", "init_args": {"name": "/etc/../board v1.2", "category": "$x\n"}}
    name = Specification({"class_path": "Padim"}, data).name
    assert safe_name(name) == name


ENDLESS: list = []
ENDLESS.append(ENDLESS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "an entry of model must be a mapping"),
        ({"model": {"init_args": {}}}, "lacks 'class_path'"),
        ({"model": {"class_path": "Padim", "args": {}}}, "'args'"),
        ({"data": {}}, "data lacks 'class_path'"),
        ({"seeds": 3}, "'seeds'"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"seed": [0, -1]}, "got -1"),
        ({"seed": 2**32}, "got 4294967296"),
        ({"trainer": [1]}, r"trainer must be of type dict, got \[1\]"),
        ({"trainer": {"grid": [1]}}, "trainer must be of type dict, got 1"),
        ({"model": {"class_path": 3}}, "class_path of an entry of model must be of type str, got 3"),
        ({"model": {"class_path": "Padim", "label": {}}}, "label of an entry of model"),
        ({"model": {"class_path": "Padim", "init_args": {1: 2}}}, "the key 1 must be of type str"),
        ({"model": {"class_path": "Padim", "init_args": {"layers": ENDLESS}}}, "nested more than"),
        ({"seed": []}, "describes no job"),
    ],
)
def test_wrong_configurations(change, message):
    with pytest.raises(ValueError, match=message):
        specifications({"model": {"class_path": "Padim"}, "data": DATA, **change})


def test_data_of_two_places_need_names_of_their_own():
    roots = {"class_path": "Folder", "init_args": {"name": "parts", "root": {"grid": ["./a", "./b"]}}}
    with pytest.raises(ValueError, match=r"root must be the same .* got './a' and './b'"):
        specifications({"model": {"class_path": "Padim"}, "data": roots})
    names = {"grid": [{**roots, "init_args": {"name": place, "root": place}} for place in "ab"]}
    assert len(specifications({"model": {"class_path": "Padim"}, "data": names})) == 2


def test_entries_that_differ_in_their_labels_alone_are_refused():
    models = {"grid": [{"class_path": "Padim", "label": label} for label in ("one", "other")]}
    with pytest.raises(ValueError, match="label must be one for equal entries, got 'one' and 'other'"):
        specifications({"model": models, "data": DATA})


def test_to_check_needs_no_pretrained_weights(monkeypatch):
    asked = []
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *args, pretrained, **kwargs: asked.append(pretrained) or create(*args, **kwargs)
    )
    model = {"class_path": "CutPaste", "init_args": {"backbone": "test_resnet", "pre_trained": True}}
    check([Specification(model, {"class_path": "MVTecAD"})])
    assert asked
    assert not any(asked)


@pytest.mark.parametrize(
    ("model", "trainer", "message"),
    [
        ({"class_path": "NoSuchModel"}, {}, "NoSuchModel"),
        ({"class_path": "CutPaste", "init_args": {"vriant": "3way"}}, {}, "'vriant' is not accepted"),
        ({"class_path": "CutPaste", "init_args": {"max_updates": "many"}}, {}, r"max_updates.*Got value: many"),
        ({"class_path": "os.system"}, {}, "os.system"),
        ({"class_path": "Padim"}, {"max_epoch": 3}, "max_epoch'"),
        ({"class_path": "Padim"}, {"devices": 2}, "devices'"),
        ({"class_path": "CutPaste", "init_args": {"max_updates": -1}}, {}, "max_updates must .*-1"),
        ({"class_path": "SSM", "init_args": {"widths": [0]}}, {}, "widths must"),
        ({"class_path": "Padim"}, {"max_epochs": -3}, "max_epochs"),
        ({"class_path": "Padim"}, {"max_epochs": "x"}, r"trainer.max_epochs: Expected a .*int.*Got value: x"),
        ({"class_path": "Padim"}, {"precision": "half"}, "half"),
    ],
)
def test_what_cannot_be_built_shows_at_once(model, trainer, message):
    job = Specification(model, {"class_path": "MVTecAD"}, trainer=trainer)
    with pytest.raises(ValueError, match=message):
        check([job])


def test_categories_and_batch_sizes_are_looked_at(tmp_path, monkeypatch):
    (tmp_path / "bottle").mkdir()
    (tmp_path / "visa/cashew").mkdir(parents=True)

    def job(**arguments):
        return Specification({"class_path": "Padim"}, {"class_path": "MVTecAD", "init_args": arguments})

    check([job(root=str(tmp_path), category="bottle"), job(root=str(tmp_path), category="cashew")])
    check([job(root=str(tmp_path / "to_be_downloaded"), category="tile")])
    with pytest.raises(ValueError, match=r"category must be one of .*\(bottle, visa\), got 'tile'"):
        check([job(root=str(tmp_path), category="tile")])
    (tmp_path / "datasets/MVTecAD/bottle").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"category must be one of .*\(bottle\), got 'botle'"):
        check([job(category="bottle"), job(category="botle")])
    with pytest.raises(ValueError, match=r"train_batch_size must .*0"):
        check([job(train_batch_size=0)])
    with pytest.raises(ValueError, match=r"Padim on MVTecAD: root: Expected .* Got value: 5"):
        check([job(root=5)])


def test_models_are_built_from_their_settings():
    settings = {"class_path": "anomalib_ssl.models.CutPaste", "init_args": {"backbone": "resnet10t", "seed": 9}}
    built = build(Specification(settings, {"class_path": "MVTecAD", "init_args": {"category": "tile"}}, seed=2))
    assert type(built.model).__name__ == "CutPaste"
    assert built.model.hparams["seed"] == 2, "the job's seed counts"
    assert (built.datamodule.category, built.arguments["max_updates"], built.pretrained) == ("tile", 10_000, False)


@pytest.mark.parametrize(
    ("entry", "pretrained"),
    [
        ({"class_path": "Padim", "init_args": {"pre_trained": False}}, False),
        ({"class_path": "SSM", "init_args": {"widths": [4, 8], "cell_sizes": [8], "image_size": 32}}, False),
        ({"class_path": "Ganomaly"}, None),
    ],
)
def test_start_weights_are_told_only_where_they_are_known(entry, pretrained):
    data = {"class_path": "MVTecAD"}
    assert build(Specification(entry, data)).pretrained is pretrained
    assert build(Specification(entry, data, pretrained=True)).pretrained is True


def test_without_a_limit_in_updates_there_is_no_validation_on_the_way(configuration):
    first = specifications(configuration["benchmark"])[0]
    unlimited = first.unlimited()
    updates = unlimited.model_args["max_updates"]
    assert updates > 10**8
    assert unlimited.trainer["check_val_every_n_epoch"] is None
    assert unlimited.trainer["val_check_interval"] == updates
    told = replace(first, trainer={"val_check_interval": 0.5})
    assert told.unlimited().trainer == {"val_check_interval": 0.5}
