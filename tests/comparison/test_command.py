# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl benchmark`` from the YAML file to the last row."""

import itertools
import json
import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from lightning import Trainer, seed_everything
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from anomalib_ssl import CutPaste, cli
from anomalib_ssl.comparison import minutes
from anomalib_ssl.comparison.building import build
from anomalib_ssl.comparison.row import METRICS
from anomalib_ssl.comparison.specification import specifications
from anomalib_ssl.comparison.store import Store, read_pictures
from anomalib_ssl.comparison.table import read_rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory, configuration):
    """The folder of a benchmark, its exit code and what it printed."""
    folder = tmp_path_factory.mktemp("benchmark")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    output, printed = folder / "out", folder / "printed.txt"
    handlers = list(logging.getLogger().handlers)
    with printed.open("w", encoding="utf-8") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        code = cli.main(["benchmark", "--config", str(config), "--output", str(output)])
    assert logging.getLogger().handlers == handlers, "logging is as it was"
    return Store(output), code, printed.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def rows(finished):
    return {(row.model, row.seed, row.status): row for row in finished[0].rows()}


def test_one_failure_neither_stops_nor_spoils_the_others(finished, rows):
    store, code, _ = finished
    assert code == 1
    assert set(rows) == {("CutPaste", 0, "ok"), ("CutPaste", 1, "ok"), ("Padim", 0, "failed"), ("Padim", 0, "ok")}
    failed = rows["Padim", 0, "failed"]
    assert failed.error == "ValueError: For backbone resnet18, 0 < n_features <= 0, found 4"
    state = store.states()[failed.job]
    assert state["state"] == "failed"
    assert "Traceback" in state["traceback"]
    assert state["settings"]["model"]["init_args"]["layers"] == ["none"]


def test_rows_tell_settings_scores_and_costs(rows):
    row = rows["CutPaste", 1, "ok"]
    assert (row.dataset, row.category, row.label, row.accelerator) == ("MVTecAD", "plate", "ours", "cpu")
    assert (row.resolution, row.budget, row.updates, row.train_batch_size) == ("32x32", "2 updates", 2, 4)
    assert (row.train_images, row.test_images, row.transductive, row.pretrained) == (6, 8, False, False)
    assert json.loads(row.model_args) == {"backbone": "resnet10t", "image_size": 32, "max_updates": 2}
    assert json.loads(row.data_args) == {"num_workers": 0, "train_batch_size": 4}
    assert all(0 <= getattr(row, metric) <= 1 for metric in METRICS)
    assert row.throughput_batch_size == 3
    assert row.images_per_second_1 > 0
    assert row.images_per_second_n > 0
    assert 0 < row.fit_duration < row.job_duration
    assert row.parameters > 4e6
    assert rows["Padim", 0, "ok"].budget == "1 epoch"
    assert rows["Padim", 0, "ok"].resolution == "256x256"


def test_metrics_agree_with_other_implementations(finished, rows):
    """At image level from the scores kept for the gallery; pictures are small, so pixels only roughly."""
    store = finished[0]
    images = read_pictures(store.pictures / "MVTecAD-plate.images.npz")
    for row in (rows["CutPaste", 0, "ok"], rows["Padim", 0, "ok"]):
        arrays = read_pictures(store.pictures / f"{row.job}.npz")
        raw = arrays["raw_scores"]
        assert row.image_AUROC == pytest.approx(roc_auc_score(arrays["labels"], raw), abs=1e-5)
        assert row.image_AUPR == pytest.approx(average_precision_score(arrays["labels"], raw), abs=1e-5)
        called = arrays["scores"] > 0.5
        assert row.image_F1Score == pytest.approx(f1_score(arrays["labels"], called), abs=1e-5), "as the gallery says"
        pixels = roc_auc_score(images["masks"].ravel(), arrays["maps"].ravel())
        assert row.pixel_AUROC == pytest.approx(pixels, abs=0.1)


def test_pictures_are_those_of_the_test_images(finished, mvtec_root):
    images = read_pictures(finished[0].pictures / "MVTecAD-plate.images.npz")
    assert sorted(images["names"]) == sorted(
        f"{kind}/{index:03d}.png" for kind in ("good", "spot") for index in range(4)
    )
    for name, picture, mask, label in zip(
        *(images[key] for key in ("names", "images", "masks", "labels")), strict=True
    ):
        with Image.open(mvtec_root / "plate/test" / str(name)) as image:
            expected = np.asarray(image.convert("RGB").resize((16, 16), Image.Resampling.BOX))
        np.testing.assert_array_equal(picture, expected)
        assert bool(label) == str(name).startswith("spot") == bool(mask.any())
        if label:  # the defect is white
            assert picture[mask].mean() > picture[~mask].mean() + 50


def test_what_is_printed(finished):
    store, _, printed = finished
    assert printed.count("ours  plate") == 2
    assert "n_features <= 0" in printed
    assert "4 of 4 jobs done, 1 failed" in printed
    assert str(store.table) in printed
    assert "GPU available" not in printed
    assert "GPU available" in (store.log(store.rows()[0].job)).read_text(encoding="utf-8")


def test_resuming_does_what_is_missing_and_repeats_exactly(finished, write, configuration, tmp_path, capsys):
    """One job never ran, another's process was killed before its row was written, the failed one works now."""
    store = finished[0]
    copy = Store(tmp_path / "out")
    first, second, padim = (row for row in store.rows() if row.status == "ok")
    (copy.folder / "jobs").mkdir(parents=True)
    for row in (second, padim):
        name = f"jobs/{row.job}.json"
        (copy.folder / name).write_bytes((store.folder / name).read_bytes())
    lines = store.table.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.startswith(("job,", padim.job))]
    copy.table.write_text("".join(kept), encoding="utf-8")
    changed = json.loads(json.dumps(configuration))
    del changed["benchmark"]["model"]["grid"][1]
    arguments = ["benchmark", "--config", str(write(changed)), "--output", str(copy.folder)]

    assert cli.main(arguments) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli.main([*arguments, "--resume"]) == 0
    assert "1 of 1 jobs done, 2 done before" in capsys.readouterr().out
    written = list(read_rows(copy.table))
    assert [row.job for row in written] == [padim.job, second.job, first.job]
    again = written[-1]
    assert {metric: getattr(again, metric) for metric in METRICS} == {
        metric: getattr(first, metric) for metric in METRICS
    }
    assert cli.main([*arguments, "--resume"]) == 0
    assert list(read_rows(copy.table)) == written

    changed["benchmark"]["model"]["grid"][0] |= {"label": "new = name", "pretrained": True}
    assert cli.main(["benchmark", "--config", str(write(changed)), *arguments[3:], "--resume"]) == 0
    assert [row.label for row in copy.rows()] == [None, "new = name", "new = name"]
    assert [row.pretrained for row in copy.rows()] == [False, True, True]
    assert {row.started for row in copy.rows()} == {row.started for row in written}, "none has run again"
    copy.table.unlink()
    assert cli.main(arguments) == 2
    assert f"'{copy.folder}' holds results" in capsys.readouterr().err
    assert not copy.table.exists()


NO_UPDATE = {"class_path": "CutPaste", "init_args": {"max_updates": 0}}


@pytest.mark.parametrize(
    ("change", "flags", "message"),
    [
        ({}, ["--accelerator", "tpu"], "accelerator must be a list of 1 or more of"),
        ({}, ["--accelerator", "[]"], "accelerator must be a list of 1 or more"),
        ({}, ["--seeds", "[-1]"], "seed must be a whole number"),
        ({}, ["--categories", "[plate, missing]"], "category must be one of"),
        ({}, ["--picture_size=-1"], "picture_size"),
        ({}, ["--runner", "parallel"], "workers must be at least 1"),
        ({}, ["--categories", "['']"], "category must be the name of a folder, got ''"),
        ({}, ["--categories", "[..]"], "category must be the name of a folder, got '..'"),
        ({}, ["--data_root="], "data_root must be a folder that exists, got ''"),
        ({}, ["--minutes", "[]"], "minutes must be one number or more, got []"),
        ({"benchmark": {"model": {"class_path": "CutPaste", "init_args": {"a": 1}}}}, [], "lacks 'data'"),
        (
            {"benchmark": {"model": NO_UPDATE, "data": {"class_path": "MVTecAD"}}},
            [],
            "error: CutPaste on MVTecAD: max_updates must lie in [1, inf], got 0.\n",
        ),
        ({"unknown": 1}, [], "unknown"),
    ],
)
def test_wrong_requests_start_nothing(configuration, write, tmp_path, capsys, change, flags, message):
    config, output = write({**configuration, **change}), tmp_path / "out"
    try:
        code = cli.main(["benchmark", "--config", str(config), "--output", str(output), *flags])
    except SystemExit as error:
        code = error.code
    assert code == 2
    assert message in capsys.readouterr().err
    assert not Store(output).table.exists()


def test_a_budget_in_minutes(configuration, write, tmp_path, capsys, monkeypatch):
    """By a clock on which each update takes half a second; models of anomalib have budgets of their own."""
    fitted, fit_statistics = [], CutPaste.fit_statistics
    monkeypatch.setattr(CutPaste, "fit_statistics", lambda *args: fitted.append(args) or fit_statistics(*args))
    ticks = itertools.count(step=0.5)
    monkeypatch.setattr(minutes, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    changed = json.loads(json.dumps(configuration))
    changed["benchmark"]["model"]["grid"][0]["seed"] = 0
    del changed["benchmark"]["model"]["grid"][1]
    store = Store(tmp_path / "out")
    arguments = ["benchmark", "--config", str(write(changed)), "--output", str(store.folder)]
    assert cli.main([*arguments, "--minutes", "[0.05,0.1]"]) == 0
    short, long, padim = store.rows()
    assert (short.budget, long.budget, padim.budget) == ("0.05 minutes", "0.1 minutes", "1 epoch")
    assert (short.updates, long.updates) == (6, 12)
    assert (short.training_duration, long.training_duration) == (3, 6)
    assert json.loads(short.model_args)["max_updates"] == 2, "as it was given"
    assert len({short.job, long.job, padim.job}) == 3
    assert len(fitted) == 2, "none to measure the rate"
    changed["benchmark"]["trainer"] = {"accumulate_grad_batches": 2}
    accumulating = ["benchmark", "--config", str(write(changed)), "--output", str(tmp_path / "accumulating")]
    assert cli.main([*accumulating, "--minutes", "0.1"]) == 0
    assert Store(tmp_path / "accumulating").rows()[0].training_duration == pytest.approx(6, abs=1)
    assert cli.main([*arguments, "--minutes", "0"]) == 2
    assert "minutes must" in capsys.readouterr().err


def test_time_without_validations(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(minutes, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = SimpleNamespace(state=SimpleNamespace(fn=TrainerFn.FITTING), global_step=0)
    clock = minutes.TrainingTime()
    assert clock.seconds is None
    clock.on_train_start()
    for second, call in (
        (1, clock.on_train_batch_end),
        (2, clock.on_validation_start),
        (9, clock.on_validation_end),
        (9.5, clock.on_train_batch_end),
        (10, clock.on_train_batch_end),
    ):
        now[0] = float(second)
        call(trainer)
    assert clock.ends == [1, 2.5, 3]


def test_updates_follow_the_rate(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(minutes, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = Trainer(accelerator="cpu", max_steps=100, max_epochs=100, barebones=True)
    clock = minutes.TimeBudget(10)
    clock.on_train_start(trainer)
    totals = []
    for done, second in enumerate((1, 2, 3, 4, 6, 8, 8.1, 10, 10.1), start=1):
        now[0] = float(second)
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = done
        clock.on_train_batch_end(trainer)
        assert trainer.global_step == done
        assert trainer.max_epochs == trainer.max_steps
        totals.append(trainer.max_steps)
    # The first one says nothing. A second an update, then two; the last one is measured alone, not to end early.
    assert totals == [100, 10, 10, 10, 7, 7, 26, 8, 9]
    # The ten updates after the first tell the rate, however short they are.
    trainer = Trainer(accelerator="cpu", max_steps=10**9, max_epochs=10**9, barebones=True)
    clock = minutes.TimeBudget(1000)
    clock.on_train_start(trainer)
    for done in range(1, 15):
        now[0] += 0.5
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = done
        clock.on_train_batch_end(trainer)
        assert trainer.max_steps == (10**9 if done <= minutes.FIRST else 2000)


def test_what_is_done_once_before_updates_does_not_end_a_run_early(monkeypatch):
    """As STSSAD's tuning: 13 of 60 seconds, in the time of the first update; then, half way, a machine that is busy."""
    now = [0.0]
    monkeypatch.setattr(minutes, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    trainer = Trainer(accelerator="cpu", max_steps=10**9, max_epochs=10**9, barebones=True)
    clock = minutes.TimeBudget(60)
    clock.on_train_start(trainer)
    done = 0
    while done < trainer.max_steps:
        now[0] += 13 if done == 0 else 5 if done == 100 else 0.1
        done += 1
        trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed = done
        clock.on_train_batch_end(trainer)
    assert clock.seconds == pytest.approx(60, abs=0.2)


@pytest.mark.parametrize("part", ["throughput", "save_weights", "PictureCollector.files"])
def test_a_result_outlives_what_it_can_do_without(configuration, write, tmp_path, monkeypatch, part):
    """Speed, the network of other entries and pictures come after a training, and are missing at most."""

    def fail(*args, **kwargs):
        msg = "no memory left"
        raise RuntimeError(msg)

    monkeypatch.setattr(f"anomalib_ssl.comparison.job.{part}", fail)
    (entry, *_) = configuration["benchmark"]["model"]["grid"]
    ways = [{**entry, "seed": 0, "init_args": {**entry["init_args"], "score": way}} for way in ("density", "auto")]
    config = write(configuration | {"benchmark": configuration["benchmark"] | {"model": {"grid": ways}}})
    assert cli.main(["benchmark", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    for row in Store(tmp_path / "out").rows():
        assert row.image_AUROC is not None
        assert (row.images_per_second_1 is None) == (part == "throughput")
        assert (row.weights is None) == (part == "save_weights"), "what was not kept is not shared"


def test_of_sound_images_alone_there_is_no_rank(configuration, write, tmp_path, mvtec_root):
    folder = {"name": "sound", "root": str(mvtec_root / "plate"), "normal_dir": "train/good", "num_workers": 0}
    data = {"class_path": "Folder", "init_args": {**folder, "normal_test_dir": "test/good"}}
    models = configuration["benchmark"]["model"]["grid"][2]
    config = write(configuration | {"benchmark": {"seed": 0, "model": models, "data": data}})
    assert cli.main(["benchmark", "--config", str(config), "--output", str(tmp_path / "out")]) == 0
    (row,) = Store(tmp_path / "out").rows()
    assert [getattr(row, metric) for metric in METRICS] == [None] * len(METRICS)
    assert row.images_per_second_1 > 0


def test_random_weights(configuration, write, tmp_path):
    """As they were drawn, with statistics and thresholds like a trained model's; a budget in minutes does not apply."""
    entry = {"class_path": "CutPaste", "init_args": {"backbone": "resnet10t", "image_size": 32}, "untrained": True}
    benchmark = {**configuration["benchmark"], "model": entry}
    arguments = ["--config", str(write({**configuration, "benchmark": benchmark})), "--output", str(tmp_path / "out")]
    assert cli.main(["benchmark", *arguments, "--minutes", "[1,2]"]) == 0
    (row,) = Store(tmp_path / "out").rows()
    assert (row.budget, row.updates, row.training_duration) == ("no training", 0, None)
    seed_everything(0, workers=True, verbose=False)
    built = build(specifications(benchmark)[0])
    built.datamodule.setup()
    collate = built.datamodule.train_data.collate_fn
    training, test = (
        collate([data[index] for index in range(len(data))])
        for data in (built.datamodule.train_data, built.datamodule.test_data)
    )
    built.model.eval().model.fit([built.model.pre_processor(training.image)])
    with torch.no_grad():
        scores = built.model.model(built.model.pre_processor(test.image)).pred_score
    assert row.image_AUROC == pytest.approx(roc_auc_score(test.gt_label, scores), abs=1e-5)
    with pytest.raises(ValueError, match="untrained is for models of this package"):
        specifications({**benchmark, "model": {"class_path": "Padim", "untrained": True}})


def test_entries_that_differ_only_in_how_they_score_share_a_training(configuration, write, tmp_path, monkeypatch):
    """What they score is what each would score alone."""
    common = {"backbone": "resnet10t", "image_size": 32, "max_updates": 2}
    entries = [
        {"class_path": "CutPaste", "init_args": {**common, "heat_map": heat_map}} for heat_map in ("places", "gradcam")
    ]
    benchmark = {**configuration["benchmark"], "model": entries[0]}
    steps = []
    monkeypatch.setattr(CutPaste, "on_train_batch_end", lambda *_: steps.append(1))
    for flags in ([], ["--resume"]):  # the second entry is added later
        config = write({**configuration, "benchmark": benchmark, "throughput_batch_size": 0})
        assert cli.main(["benchmark", "--config", str(config), "--output", str(tmp_path / "shared"), *flags]) == 0
        benchmark["model"] = {"grid": entries}
    assert len(steps) == 2, "one training of two updates"
    first, second = Store(tmp_path / "shared").rows()
    assert first.weights == second.weights is not None
    assert (second.updates, second.budget, second.fit_duration) == (2, "2 updates", first.fit_duration)
    benchmark["model"] = {"class_path": "CutPaste", "init_args": {**common, "score": "density"}}
    later = ["--config", str(write({**configuration, "benchmark": benchmark})), "--resume"]
    assert cli.main(["benchmark", *later, "--output", str(tmp_path / "shared")]) == 0
    third = Store(tmp_path / "shared").rows()[-1]
    assert (len(steps), third.weights, third.scored_by) == (
        2,
        first.weights,
        "density, places_and_filters+fine_filters",
    )
    benchmark["model"] = entries[1]
    assert (
        cli.main(
            [
                "benchmark",
                "--config",
                str(write({**configuration, "benchmark": benchmark})),
                "--output",
                str(tmp_path / "alone"),
            ]
        )
        == 0
    )
    (alone,) = Store(tmp_path / "alone").rows()
    assert (alone.job, alone.weights, len(steps)) == (second.job, second.weights, 4)
    assert (first.scored_by, alone.scored_by) == (
        "places_and_filters_max, places",
        "places_and_filters_max, gradcam",
    )
    for metric in METRICS:
        assert getattr(alone, metric) == pytest.approx(getattr(second, metric), abs=1e-6), metric
    assert any(getattr(alone, metric) != getattr(first, metric) for metric in METRICS)


def test_a_data_root_that_is_not_there_is_refused(configuration, tmp_path, capsys):
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    missing = tmp_path / "missing"
    arguments = ["--config", str(config), "--data_root", str(missing), "--output", str(tmp_path / "out")]
    assert cli.main(["benchmark", *arguments]) == 2
    assert f"data_root must be a folder that exists, got '{missing}'" in capsys.readouterr().err
    assert not missing.exists()
    assert not (tmp_path / "out").exists()
