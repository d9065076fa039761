# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What stands in the tables: means, deviations, gaps, and what is never mixed."""

import csv
import statistics
from dataclasses import replace

import numpy as np
import pytest

from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.comparison.store import Outcome, Store
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.published import beside, published
from anomalib_ssl.report.reading import Result, read_results
from anomalib_ssl.report.tables import OBJECTS, TEXTURES, dataset_tables, ordered


def tables_of(rows):
    (tables,) = (
        dataset_tables(name, members) for name, members in contenders(Result(row, None) for row in rows).items()
    )
    return tables


def table_of(tables, metric="image_AUROC"):
    return next(table for table in tables.metrics if table.metric == metric)


def row(model="CutPaste", category="bottle", seed=0, **values):
    values = {"resolution": "256x256", "image_AUROC": 0.9, "pretrained": False} | values
    return Row(
        job=repr((model, category, seed, values)),
        status="ok",
        model=model,
        dataset="MVTecAD",
        seed=seed,
        category=category,
        **values,
    )


def test_means_and_deviations_agree_with_numpy(folder):
    tables = dataset_tables("MVTecAD", contenders(read_results([folder]))["MVTecAD"])
    table = table_of(tables)
    lines = {line.name: line.cells for line in table.lines}
    assert list(lines) == ["carpet", "bottle", "metal_nut", "texture", "object", "mean"]
    for column, model in enumerate(contender.model for contender in table.contenders):
        scores = np.array(
            [[score(model, name, seed) for name in ("carpet", "bottle", "metal_nut")] for seed in range(3)]
        )
        seeds = 1 if model == "SSM" else 3
        scores = scores[:seeds]
        for name, chosen in (("bottle", [1]), ("texture", [0]), ("object", [1, 2]), ("mean", [0, 1, 2])):
            figure = lines[name][column].figure
            if model == "STSSAD" and 2 in chosen:
                assert figure is None, "a mean lacks nothing, or is not given"
                continue
            means = scores[:, chosen].mean(axis=1)
            assert figure.mean == pytest.approx(means.mean())
            assert figure.seeds == seeds
            assert figure.std == (None if seeds == 1 else pytest.approx(means.std(ddof=1)))
    overview = {line.contender.model: line for line in tables.overview}
    assert overview["STSSAD"].scores["image_AUROC"] is None
    assert (overview["STSSAD"].covered, overview["CutPaste"].covered) == (2, 3)


def score(model, category, seed):
    numbers = {"CutPaste": 0.90, "SSM": 0.85, "Patchcore": 0.99, "STSSAD": 0.95}
    return numbers[model] + 0.003 * ["carpet", "bottle", "metal_nut"].index(category) + 0.001 * seed


def test_groups_are_apart_and_the_best_is_that_of_its_group(folder):
    tables = dataset_tables("MVTecAD", contenders(read_results([folder]))["MVTecAD"])
    assert [line.contender.model for line in tables.overview] == ["CutPaste", "SSM", "Patchcore", "STSSAD"]
    assert [line.contender.group for line in tables.overview] == [(False, False)] * 2 + [(False, True), (True, False)]
    assert [sorted(line.best) for line in tables.overview] == [["image_AUROC", "pixel_AUROC"], [], [], []]


@pytest.mark.parametrize(
    "different",
    [
        {"resolution": "128x128"},
        {"budget": "5 updates"},
        {"pretrained": True},
        {"transductive": True},
        {"model_args": '{"variant": "union"}'},
        {"data_args": '{"train_batch_size": 3}'},
        {"trainer_args": '{"max_epochs": 2}'},
        {"device": "other"},
        {"label": "mine"},
    ],
)
def test_different_settings_are_never_averaged(different):
    tables = tables_of([row(image_AUROC=0.9), row(image_AUROC=0.8, **different)])
    assert sorted(line.scores["image_AUROC"].mean for line in tables.overview) == [0.8, 0.9]
    same = {"data_args": '{"num_workers": 8}'}
    assert tables_of([row(image_AUROC=0.9), row(seed=1, image_AUROC=0.8, **same)]).overview[0].scores[
        "image_AUROC"
    ].mean == pytest.approx(0.85)


def test_titles_name_what_is_different():
    rows = [
        row(model_args='{"variant": "3way", "image_size": 64}'),
        row(model_args='{"variant": "union", "image_size": 64}'),
        row("SSM", model_args='{"widths": [4]}'),
        row("Padim", label="PaDiM, small"),
    ]
    assert [contender.title for contender in tables_of(rows).contenders] == [
        "CutPaste (variant 3way)",
        "CutPaste (variant union)",
        "SSM",
        "PaDiM, small",
    ]


def test_seeds_that_lack_a_category_do_not_count_in_a_mean():
    rows = [row(category=name, seed=seed, image_AUROC=0.5 + 0.1 * seed) for seed in (0, 1) for name in ("tile", "wood")]
    rows.append(row(category="tile", seed=2, image_AUROC=1.0))
    lines = {line.name: line.cells[0].figure for line in table_of(tables_of(rows)).lines}
    assert (lines["mean"].seeds, lines["tile"].seeds) == (2, 3)
    assert lines["mean"].mean == pytest.approx(0.55)
    assert lines["mean"].std == pytest.approx(statistics.stdev([0.5, 0.6]))


def test_gaps_are_over_the_same_categories():
    published_mean = {"tile": 93.4, "bottle": 98.3}
    table = table_of(tables_of([row(category="tile", image_AUROC=0.9), row(category="bottle", image_AUROC=1.0)]))
    cells = {line.name: line.cells[0] for line in table.lines}
    assert cells["tile"].published == 93.4
    assert cells["tile"].gap == pytest.approx(90 - 93.4)
    assert cells["mean"].published == pytest.approx(sum(published_mean.values()) / 2)
    assert cells["mean"].gap == pytest.approx(95 - sum(published_mean.values()) / 2)


def test_published_means_alone_stand_only_beside_all_categories():
    some = table_of(tables_of([row("Patchcore", name, pretrained=True) for name in TEXTURES]))
    assert some.lines[-1].cells[0].published is None
    complete = table_of(tables_of([row("Patchcore", name, pretrained=True) for name in (*TEXTURES, *OBJECTS)]))
    cells = {line.name: line.cells[0] for line in complete.lines}
    assert cells["mean"].published == 98.0
    assert cells["mean"].gap == pytest.approx(90 - 98)
    assert cells["texture"].published is None
    assert cells["screw"].published is None


@pytest.mark.parametrize(
    ("model", "arguments", "metric", "mean"),
    [
        ("CutPaste", None, "image_AUROC", 95.2),
        ("CutPaste", '{"variant": "union", "max_updates": 3}', "image_AUROC", 94.3),
        ("CutPaste", '{"variant": "normal"}', "image_AUROC", 90.9),
        ("CutPaste", '{"ensemble": 5}', "image_AUROC", 96.1),
        ("CutPaste", '{"ensemble": 3}', "image_AUROC", None),
        ("CutPaste", '{"backbone": "mobilenetv2_100", "pre_trained": true}', "image_AUROC", None),
        ("CutPaste", '{"backbone": "efficientnet_b4", "pre_trained": true}', "image_AUROC", 96.6),
        ("CutPaste", None, "pixel_AUROC", 88.3),
        ("CutPastePatch", None, "pixel_AUROC", 96.0),
        ("CutPastePatch", None, "image_AUROC", None),
        ("SSM", None, "image_AUROC", None),
        ("SSM", None, "pixel_AUROC", None),
        ("AutoencoderProjection", None, "pixel_AUROC", 99.2),
        ("Patchcore", '{"backbone": "resnet18"}', "image_AUROC", 97.3),
        ("Padim", '{"pre_trained": false}', "image_AUROC", None),
        ("Padim", None, "image_AUPR", None),
    ],
)
def test_published_figures_belong_to_a_setting(model, arguments, metric, mean):
    contender = tables_of([row(model, model_args=arguments)]).contenders[0]
    entry = beside(contender, "MVTecAD", metric)
    assert (entry and entry.values["mean"]) == mean
    assert beside(contender, "Visa", metric) is None


def test_published_figures_are_consistent():
    """Means that a source gives beside all categories are their means, to the digit they are rounded to."""
    complete = 0
    for entry in published():
        assert entry.source
        assert entry.metric is None or entry.metric in METRICS
        assert set(entry.values) <= {*TEXTURES, *OBJECTS, "mean", "texture", "object"}
        assert all(0 <= value <= 100 for value in entry.values.values())
        if {*TEXTURES, *OBJECTS} <= set(entry.values):
            complete += 1
            for name, members in (("texture", TEXTURES), ("object", OBJECTS), ("mean", (*TEXTURES, *OBJECTS))):
                mean = statistics.fmean(entry.values[member] for member in members)
                assert entry.values[name] == pytest.approx(mean, abs=0.1001), (entry.title, name)
    assert complete >= 5


def test_categories_stand_in_the_order_of_the_data_set():
    assert ordered({"zipper", "own", "carpet", "bottle"}) == ["carpet", "bottle", "zipper", "own"]


def test_several_tables_are_read_together_and_the_last_row_of_a_job_counts(folder, tmp_path):
    other = Store(tmp_path)
    first = read_results([folder])[0].row
    other.save(Outcome(replace(first, image_AUROC=0.123)))
    results = read_results([folder / "results.csv", tmp_path])
    assert len(results) == len(read_results([folder]))
    found = next(result for result in results if result.row.job == first.job)
    assert (found.row.image_AUROC, found.pictures) == (0.123, tmp_path / "pictures")


def test_tables_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(FileNotFoundError, match="no file"):
        read_results([path])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], [1, 2]])
    with pytest.raises(ValueError, match="neither"):
        read_results([path])
    path.write_text("seed,model.class_path,data.class_path\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no result"):
        read_results([path])


def test_the_stock_table_of_models_with_arguments(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(
        "accelerator,job_duration,fit_duration,test_duration,seed,model.class_path,model.init_args.image_size,"
        "model.init_args.max_updates,model.init_args.pre_trained,model.init_args.seed,data.class_path,"
        "data.init_args.category,data.init_args.root,image_AUROC,pixel_AUROC,transductive\n"
        "cpu,3.0,2.0,1.0,5,anomalib.models.CutPaste,64,20,True,0,MVTecAD,tile,x,0.75,,1.0\n",
        encoding="utf-8",
    )
    (result,) = read_results([path])
    row = result.row
    assert (row.model, row.dataset, row.category, row.seed) == ("CutPaste", "MVTecAD", "tile", 5)
    assert (row.resolution, row.budget, row.pretrained, row.transductive) == ("64x64", "20 updates", True, True)
    assert (row.image_AUROC, row.pixel_AUROC, row.fit_duration) == (0.75, None, 2.0)
    assert row.model_args == '{"image_size": "64", "max_updates": "20", "pre_trained": "True"}'
