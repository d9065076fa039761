# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What stands in the tables: means, deviations, gaps, and what is never mixed."""

import csv
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anomalib_ssl.comparison.row import METRICS, Row
from anomalib_ssl.comparison.store import Outcome, Store
from anomalib_ssl.file_names import safe_name
from anomalib_ssl.report import formatting
from anomalib_ssl.report.contenders import contenders
from anomalib_ssl.report.page import make_page
from anomalib_ssl.report.published import beside, published
from anomalib_ssl.report.reading import Result, read_results
from anomalib_ssl.report.tables import OBJECTS, TEXTURES, dataset_tables, ordered


def tables_of(rows):
    (tables,) = (
        dataset_tables(name, members) for name, members in contenders(Result(row, None) for row in rows).items()
    )
    return tables


def lines_of(tables, metric="image_AUROC"):
    return {name: cells for name, _, cells in tables.lines(metric)}


def overall(tables, metric="image_AUROC"):
    """The scores over all categories, by what tables call the contenders."""
    place = tables.metrics.index(metric)
    return {contender.title: cells[place] for contender, cells in tables.overview()}


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
    lines = lines_of(tables)
    assert list(lines) == ["carpet", "bottle", "metal_nut", "texture", "object", "mean"]
    for column, model in enumerate(contender.row.model for contender in tables.contenders):
        scores = np.array(
            [[score(model, name, seed) for name in ("carpet", "bottle", "metal_nut")] for seed in range(3)]
        )
        seeds = 1 if model == "SSM" else 3
        scores = scores[:seeds]
        for name, chosen in (("bottle", [1]), ("texture", [0]), ("object", [1, 2]), ("mean", [0, 1, 2])):
            cell = lines[name][column]
            if model == "STSSAD" and 2 in chosen:
                assert np.isnan(cell.mean), "a mean lacks nothing, or is not given"
                continue
            means = scores[:, chosen].mean(axis=1)
            assert cell.mean == pytest.approx(means.mean())
            assert cell.runs == seeds
            assert cell.std == (pytest.approx(np.nan if seeds == 1 else means.std(ddof=1), nan_ok=True))
    assert np.isnan(overall(tables)["STSSAD"].mean)
    assert overall(tables)["CutPaste"].mean == lines["mean"][0].mean


def test_ways_of_scoring_name_their_categories_only_where_they_differ():
    same = [row(category=name, scored_by="a_max, a") for name in ("tile", "metal_nut")]
    other = [row(category="wood", scored_by="b_max, b")]
    for rows, text in (
        (same, "a_max, a"),
        ([*same, *other], "metal nut, tile: a_max, a; wood: b_max, b"),
        ([row()], ""),
    ):
        (contender,) = tables_of(rows).contenders
        assert formatting.scored_by(contender) == text


CATEGORIES = ("carpet", "bottle", "metal_nut")


def score(model, category, seed):
    numbers = {"CutPaste": 0.90, "SSM": 0.85, "Patchcore": 0.99, "STSSAD": 0.95}
    return numbers[model] + 0.003 * CATEGORIES.index(category) + 0.001 * seed


def test_groups_are_apart_and_the_best_is_that_of_its_group(folder):
    tables = dataset_tables("MVTecAD", contenders(read_results([folder]))["MVTecAD"])
    assert [contender.row.model for contender in tables.contenders] == ["CutPaste", "SSM", "Patchcore", "STSSAD"]
    assert [contender.group for contender in tables.contenders] == [(False, False)] * 2 + [(False, True), (True, False)]
    best = [[cell.best for cell in cells] for _, cells in tables.overview()]
    assert best == [[True, True], [False, False], [False, False], [False, False]]


def bold(rows, line="mean"):
    return [cell.best for cell in lines_of(tables_of(rows))[line]]


def spread(label, level, seeds=(0,), categories=TEXTURES, **values):
    """Rows whose scores differ by category as those of every model, and by seed."""
    return [
        row(category=name, label=label, seed=seed, image_AUROC=level + 0.05 * place + 0.01 * seed, **values)
        for place, name in enumerate(categories)
        for seed in seeds
    ]


def test_bold_is_what_differs_by_more_than_noise():
    close = [replace(each, image_AUROC=each.image_AUROC + 0.02 * (-1) ** n) for n, each in enumerate(spread("b", 0.5))]
    assert bold([*spread("a", 0.5), *close, *spread("c", 0.3)]) == [True, True, False]
    assert bold([*spread("a", 0.5), *close]) == [False, False], "nobody is distinguishable"
    assert bold(spread("a", 0.5)) == [False], "nobody to compare with"
    assert bold([*spread("a", 0.5), *spread("c", 0.49)]) == [True, False], "less, but in every category"


def test_a_single_category_needs_several_runs_of_everybody():
    def of(seeds, others, line="tile"):
        rows = [*spread("a", 0.7, seeds, ["tile"]), *spread("b", 0.5, others, ["tile"])]
        return bold(rows, line)

    assert of((0, 1, 2), (0, 1, 2)) == [True, False]
    assert of((0, 1, 2), (0,)) == of((0,), (0,)) == [False, False]
    seeds = (0, 1, 2)
    lines = lines_of(tables_of([*spread("a", 0.7, seeds), *spread("b", 0.5, (0,))]))
    assert [cell.best for cell in lines["mean"]] == [True, False]
    assert not any(cell.best for cell in lines["tile"])


def test_rivals_have_the_same_minutes():
    budgets = {"1 minute": 0.5, "5 minutes": 0.7}
    rows = [each for budget, level in budgets.items() for each in spread("a", level, budget=budget)]
    rows += [each for budget, level in budgets.items() for each in spread("b", level - 0.1, budget=budget)]
    tables = tables_of(rows)
    found = {contender.title: cells[0].best for contender, cells in tables.overview()}
    assert list(found.items()) == [
        ("a (for 1 minute)", True),
        ("b (for 1 minute)", False),
        ("a (for 5 minutes)", True),
        ("b (for 5 minutes)", False),
    ]


def test_budgets_in_minutes_stand_in_their_order_and_others_as_they_came():
    rows = [row("SSM", budget=budget) for budget in ("15 minutes", "2.5 minutes", "1 epoch", "1 minute")]
    rows += [row("CutPaste", budget="2.5 minutes"), row("Zebra"), row("Ape"), row("B", pretrained=True)]
    assert [contender.title for contender in tables_of(rows).contenders] == [
        "SSM",
        "Zebra",
        "Ape",
        "SSM (for 1 minute)",
        "CutPaste",
        "SSM (for 2.5 minutes)",
        "SSM (for 15 minutes)",
        "B",
    ]


def test_intervals_are_those_of_means_over_three_categories():
    for count in (1, 2, 3):
        lines = lines_of(tables_of(spread("a", 0.8, (0, 1), TEXTURES[:count])))
        for name, (cell,) in lines.items():
            shown = name == "mean" and count == 3
            assert (np.isnan(cell.low), np.isnan(cell.high)) == (not shown, not shown)
    assert 0 <= cell.low < cell.mean < cell.high <= 1
    (cell,) = lines_of(tables_of(spread("a", 0.9, (0,), TEXTURES[:3])))["mean"]
    assert cell.high == 1, "no score is higher"


def test_minutes_are_those_of_training_where_known():
    rows = [
        row(category="tile", training_duration=60.0, fit_duration=900.0),
        row(category="wood", fit_duration=180.0),
        row("Padim", fit_duration=30.0),
        row("SSM"),
    ]
    minutes = [contender.runs["minutes"].mean() for contender in tables_of(rows).contenders]
    np.testing.assert_equal(minutes, [2, 0.5, np.nan])


def test_lines_that_share_a_training_are_marked():
    def scored(label, *weights):
        return [row(label=label, seed=seed, weights=name) for seed, name in enumerate(weights)]

    rows = [*scored("a", "x", "y"), *scored("b", None), *scored("c", "z"), *scored("d", "y"), *scored("e", "z", "v")]
    rows += scored("f", "alone")
    assert tables_of(rows).marks == ["[1]", "", "[2]", "[1]", "[2]", ""]


def test_trainings_of_two_machines_are_not_taken_for_one():
    rows = [row(weights="x", device="one"), row(weights="x", device="other")]
    for folders, marks in ((("a", "a"), ["[1]", "[1]"]), (("a", "b"), ["", ""])):
        ((name, members),) = contenders(
            Result(one, Path(folder)) for one, folder in zip(rows, folders, strict=True)
        ).items()
        assert dataset_tables(name, members).marks == marks


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
        {"anomalib": "2.8.0"},
        {"anomalib_ssl": "0.3.0"},
    ],
)
def test_different_settings_are_never_averaged(different):
    tables = tables_of([row(image_AUROC=0.9), row(image_AUROC=0.8, **different)])
    assert sorted(cells[0].mean for _, cells in tables.overview()) == [0.8, 0.9]
    same = {"data_args": '{"num_workers": 8}'}
    tables = tables_of([row(image_AUROC=0.9), row(seed=1, image_AUROC=0.8, **same)])
    assert overall(tables)["CutPaste"].mean == pytest.approx(0.85)


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


def test_seeds_that_lack_a_category_count_in_its_others_but_not_in_the_deviation():
    names = ("grid", "tile", "wood")
    rows = [row(category=name, seed=seed, image_AUROC=0.5 + 0.1 * seed) for seed in (0, 1) for name in names]
    rows += [row(category=name, seed=seed, image_AUROC=0.99) for seed in range(2, 9) for name in names[:2]]
    lines = {name: cells[0] for name, cells in lines_of(tables_of(rows)).items()}
    mean = lines["mean"]
    assert (mean.runs, lines["tile"].runs) == (2, 9)
    assert mean.mean == pytest.approx(statistics.fmean(lines[name].mean for name in names))
    assert mean.low <= mean.mean <= mean.high
    assert mean.std == pytest.approx(statistics.stdev([0.5, 0.6]))


def test_gaps_are_over_the_same_categories():
    published_mean = {"tile": 93.4, "bottle": 98.3}
    lines = lines_of(tables_of([row(category="tile", image_AUROC=0.9), row(category="bottle", image_AUROC=1.0)]))
    cells = {name: cells[0] for name, cells in lines.items()}
    assert cells["tile"].published == 93.4
    assert cells["tile"].gap == pytest.approx(90 - 93.4)
    assert cells["mean"].published == pytest.approx(sum(published_mean.values()) / 2)
    assert cells["mean"].gap == pytest.approx(95 - sum(published_mean.values()) / 2)


def test_published_means_alone_stand_only_beside_all_categories():
    some = tables_of([row("Patchcore", name, pretrained=True) for name in TEXTURES])
    assert np.isnan(overall(some)["Patchcore"].published)
    complete = tables_of([row("Patchcore", name, pretrained=True) for name in (*TEXTURES, *OBJECTS)])
    cells = {name: cells[0] for name, cells in lines_of(complete).items()}
    assert cells["mean"].published == 98.0
    assert cells["mean"].gap == pytest.approx(90 - 98)
    assert np.isnan(cells["texture"].published)
    assert np.isnan(cells["screw"].published)
    assert complete.has_published("image_AUROC") == [False], "of means alone"


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


@pytest.fixture
def machines(folder, tmp_path):
    """Tables of two machines of one kind that ran the same jobs, with other scores and times."""
    rows = [result.row for result in read_results([folder])]
    others = [replace(row, image_AUROC=row.image_AUROC - 0.1, fit_duration=50.0) for row in rows if row.status == "ok"]
    others += [row for row in rows if row.status == "failed"]
    for name, lines in (("one", rows), ("two", others)):
        for line in lines:
            Store(tmp_path / name).save(Outcome(line))
    return tmp_path / "one", tmp_path / "two"


def test_rows_of_several_machines_are_runs_of_their_own(machines):
    one, two = machines
    assert len(read_results([one, two])) == 2 * len(read_results([one])) - 1, "the failed job is the same in both"
    tables = dataset_tables("MVTecAD", contenders(read_results([one, two]))["MVTecAD"])
    contender, cell = tables.contenders[0], overall(tables)["CutPaste"]
    scores = [
        np.mean([score("CutPaste", name, seed) for name in CATEGORIES]) - less for seed in range(3) for less in (0, 0.1)
    ]
    assert (cell.mean, cell.std) == (pytest.approx(np.mean(scores)), pytest.approx(np.std(scores, ddof=1)))
    assert (cell.runs, lines_of(tables)["bottle"][0].runs) == (6, 6)
    assert formatting.seeds(contender) == "3 (6 runs)"
    assert formatting.costs(tables.contenders)["fit"][0] == "1.2 min"


def test_machines_that_shared_the_categories_make_whole_runs(machines):
    """One ran the first category, the other one the rest: a mean over all has its deviation over seeds."""
    first, second = (read_results([path]) for path in machines)
    results = [result for result in first if result.row.category == "carpet"]
    results += [result for result in second if result.row.category != "carpet"]
    cell = overall(dataset_tables("MVTecAD", contenders(results)["MVTecAD"]))["CutPaste"]
    assert (cell.runs, cell.std) == (3, pytest.approx(0.001))


def test_a_copy_of_a_table_counts_once(folder, machines, tmp_path, monkeypatch):
    alone = read_results([folder])
    assert read_results([folder, folder / "results.csv", folder / ".." / folder.name]) == alone
    monkeypatch.chdir(folder)
    assert read_results([Path("results.csv"), folder]) == alone
    one, _ = machines
    assert [result.row for result in read_results([one, folder])] == [result.row for result in alone]
    with_maps = [result for result in alone if result.maps.is_file()]
    assert with_maps
    assert set(with_maps) <= set(read_results([one, folder])) & set(read_results([folder, one])), "where pictures are"


def test_machines_of_different_kinds_have_different_titles(machines):
    one, two = machines
    text = (two / "results.csv").read_text(encoding="utf-8")
    (two / "results.csv").write_text(text.replace("<GPU & more>", "Other"), encoding="utf-8")
    tables = dataset_tables("MVTecAD", contenders(read_results([one, two]))["MVTecAD"])
    assert [contender.title for contender in tables.contenders if contender.row.model == "SSM"] == [
        "SSM (on <GPU & more>)",
        "SSM (on Other)",
    ]


def test_accelerators_tell_where_devices_are_not_recorded():
    rows = [row(accelerator=name) for name in ("cpu", "cuda")]
    assert [each.title for each in tables_of(rows).contenders] == ["CutPaste (on cpu)", "CutPaste (on cuda)"]


def test_speeds_in_batches_of_several_sizes_have_no_mean():
    def speeds(*sizes):
        rows = [row(seed=size, images_per_second_n=3.0, throughput_batch_size=size) for size in sizes]
        return formatting.costs(tables_of(rows).contenders).get("images/s, batches")

    assert (speeds(16, 16), speeds(16, 256)) == (["3.00"], None)


def test_a_job_that_another_table_has_as_done_has_not_failed(folder):
    results = read_results([folder])
    failed = next(result for result in results if result.row.status == "failed")
    elsewhere = Result(replace(failed.row, status="ok", error=None, image_AUROC=0.9), None)
    assert [listing.name for listing in make_page(results, "", 0).listings] == ["sources", "failed"]
    page = make_page([*results, elsewhere], "", 0)
    assert [listing.name for listing in page.listings] == ["sources"]
    assert "failed" not in page.facts["jobs"]


def test_the_last_row_of_a_job_counts(folder, tmp_path):
    first = read_results([folder])[0].row
    store = Store(tmp_path)
    for value in (0.5, 0.123):
        store.save(Outcome(replace(first, image_AUROC=value)))
    (result,) = read_results([tmp_path])
    assert result.row.image_AUROC == 0.123


def test_names_of_pictures_stay_in_their_folder(tmp_path):
    result = Result(replace(row(category="../b.c/d"), job="../../other/job", dataset="/etc/x"), tmp_path)
    for path in (result.maps, result.images):
        assert path.parent == tmp_path / "pictures"
    assert result.maps.name == f"{safe_name('../../other/job')}.npz"
    assert result.images.name == f"{safe_name('/etc/x-../b.c/d')}.images.npz"
    assert Result(row(category="tile"), tmp_path).images.name == "MVTecAD-tile.images.npz"


def test_tables_of_another_kind_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(FileNotFoundError, match="no file"):
        read_results([path])
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b"], [1, 2]])
    with pytest.raises(ValueError, match="neither"):
        read_results([path])
    path.write_text("seed,model.class_path,data.class_path\n", encoding="utf-8")
    with pytest.raises(ValueError, match="is a result"):
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
