# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The benchmarks measure what they say; how fast anything is, is not tested."""

import importlib
import json
import random
import subprocess
import sys
import warnings
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from anomalib_ssl import SSM, CutPastePatch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks as a script there would."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


class FakeClock:
    """A clock that only moves when told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


# The measuring core


def test_timing_counts_seconds_per_call_in_turns(load):
    measure = load("harness.measure")
    clock, calls = FakeClock(), []

    def work(name, seconds):
        calls.append(name)
        clock.advance(seconds)

    competitors = [
        measure.Competitor("slow", lambda: work("slow", 3.0), warmup=1),
        measure.Competitor("fast", lambda: work("fast", 0.5), warmup=2),
    ]
    timings = measure.measure(competitors, repeats=2, min_seconds=1.0, clock=clock)
    assert calls == ["slow"] + 2 * ["fast"] + ["slow", "fast", "fast"] + ["fast", "fast", "slow"]
    assert {name: timing.repeats for name, timing in timings.items()} == {"slow": (3.0, 3.0), "fast": (0.5, 0.5)}
    assert timings["slow"].median == 3.0
    assert timings["slow"].spread == 0.0


def test_timing_includes_the_wait_for_the_device(load):
    measure = load("harness.measure")
    clock = FakeClock()
    competitors = [measure.Competitor("asynchronous", lambda: None)]
    timings = measure.measure(competitors, 3, 1.0, synchronize=lambda: clock.advance(2.0), clock=clock)
    assert timings["asynchronous"].repeats == (2.0, 2.0, 2.0)


def test_compilation_is_told_apart(load):
    measure = load("harness.measure")
    clock, durations = FakeClock(), iter([60.0, *[1.0] * 10])
    competitors = [measure.Competitor("compiled", lambda: clock.advance(next(durations)), warmup=2)]
    timing = measure.measure(competitors, repeats=3, clock=clock)["compiled"]
    assert timing.median == 1.0
    assert timing.first_use_seconds == 59.0


def test_quartiles(load):
    timing = load("harness.measure").Timing((4.0, 1.0, 2.0, 3.0, 5.0))
    assert timing.quartiles == (2.0, 3.0, 4.0)
    assert timing.spread == pytest.approx(2 / 3)


def test_what_cannot_run_is_skipped_with_the_reason(load):
    measure = load("harness.measure")

    def refuse():
        raise TypeError("no uint8\nand more")

    competitors = [measure.Competitor("refuses", refuse), measure.Competitor("runs", lambda: None)]
    timings = measure.measure(competitors, repeats=1, min_seconds=0.0)
    assert timings["refuses"] == measure.Skipped("TypeError: no uint8")
    assert len(timings["runs"].repeats) == 1


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda x: x + 1, 1.0),
        (lambda x: (x + 1) + (x + 2), 3.0),
        (lambda x: ((x + 1) * 2) * 3, 2.0),
        (lambda x: torch.cat([x.clone() for _ in range(4)]), 2.0),  # four clones and their sum, four times as large
    ],
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_peak_memory_of_known_cases(load, call, expected, device):
    images = torch.ones(512, 512, device=device)
    ratio = load("harness.memory").peak_over_output(lambda: call(images), device)
    assert ratio == pytest.approx(expected, rel=1e-3)


def test_clock_of_updates_leaves_out_warmup_and_validation(load):
    clock = load("harness.updates").UpdateClock(warmup=2)
    clock.ends = [0.0, 10.0, 11.0, 12.0, 20.0, 21.5]
    clock.after_validation = {4, 6}
    clock.losses = [torch.tensor(float(loss)) for loss in range(20)]
    assert clock.intervals == [1.0, 1.0, 1.5]
    assert clock.final_loss == 18.5


def test_report(load, tmp_path):
    report, measure = load("harness.report"), load("harness.measure")
    table = report.Table("Title", (report.Column("name", "competitor"), report.Column("ratio", "x", ".1f")))
    table.add("ours", measure.Timing((1.0, 2.0)), ratio=0.5)
    table.add("theirs", measure.Timing((1.0,)))
    table.add("others", measure.Skipped("TypeError: no"))
    out, markdown = tmp_path / "result.json", tmp_path / "result.md"
    report.save("name", {"out": out}, [table], out, markdown)
    assert json.loads(out.read_text())["tables"][0]["skipped"] == {"others": "TypeError: no"}
    text = markdown.read_text()
    assert "| competitor | x |\n| --- | --- |\n| ours | 0.5 |\n| theirs |  |" in text
    assert "* Skipped: others (TypeError: no)" in text


# The references


@pytest.fixture
def photograph(load) -> Image.Image:
    return Image.fromarray(load("harness.photographs").photograph(96, np.random.default_rng(0)))


@pytest.mark.parametrize("module", ["pil", "tensor"])
@pytest.mark.parametrize("name", ["cut_paste", "cut_paste_scar"])
def test_references_paste_inside_their_place_only(load, photograph, module, name):
    reference = load(f"competitors.{module}")
    random.seed(0)
    torch.manual_seed(0)
    original = pil_to_tensor(photograph).float() / 255
    for _ in range(10):
        source = photograph if module == "pil" else original
        result, place = getattr(reference, name)(source)
        result = pil_to_tensor(result).float() / 255 if module == "pil" else result
        changed = (result != original).any(dim=0)
        assert changed[place.slices[1:]].float().mean() > 0.3  # a rotated strip leaves the corners of its place
        changed[place.slices[1:]] = False
        assert not changed.any()
        assert torch.equal(pil_to_tensor(photograph).float() / 255, original)


@pytest.mark.parametrize("module", ["pil", "tensor"])
def test_references_make_three_different_views(load, photograph, module):
    source = photograph if module == "pil" else pil_to_tensor(photograph).float() / 255
    for task, make in load(f"competitors.{module}").VIEWS.items():
        views = make(source)
        assert views.dtype == torch.float32
        assert views.shape == ((3, 3, 96, 96) if task in ("pastes", "training") else (3, 96, 96))
        if views.ndim == 4:
            assert not torch.equal(views[0], views[1])
            assert not torch.equal(views[0], views[2])


def test_patches_and_strips_are_in_the_papers_ranges(load):
    draw = load("competitors.draw")
    random.seed(0)
    sizes = np.array([draw.draw_patch(256, 256) for _ in range(500)])
    areas, aspects = sizes.prod(axis=1) / 256**2, sizes[:, 1] / sizes[:, 0]
    assert 0.019 < areas.min() < 0.03
    assert 0.14 < areas.max() < 0.152
    assert 0.29 < aspects.min() < 0.4
    assert 3.0 < aspects.max() < 3.4
    lengths, widths, angles = np.array([draw.draw_strip() for _ in range(500)]).T
    assert (lengths.min(), lengths.max(), widths.min(), widths.max()) == (10, 25, 2, 16)
    assert 40 < np.abs(angles).max() <= 45


# The commands


def check(result, path, tables) -> dict:
    """Check what every benchmark's file holds."""
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    assert {"date", "command", "commit", "cpu", "cores", "threads", "gpu", "cuda"} <= set(result["machine"])
    assert {"torch", "torchvision", "kornia", "anomalib"} <= set(result["machine"])
    assert len(result["tables"]) == tables
    for table in result["tables"]:
        assert table["rows"][0]["ratio"] == pytest.approx(1.0)
        for row in table["rows"]:
            assert row["median_seconds"] > 0
            assert row["quartile_seconds"][0] <= row["median_seconds"] <= row["quartile_seconds"][1]
            assert row["spread"] >= 0
            assert row["ratio"] > 0
    return result


def test_augmentation_throughput(load, tmp_path):
    out = tmp_path / "result.json"
    result = load("augmentation_throughput").benchmark(
        batch_sizes=[2],
        image_size=64,
        tasks=["pastes", "CutPasteScar"],
        devices=["cpu"],
        workers=1,
        repeats=2,
        min_seconds=0.0,
        out=out,
        markdown=tmp_path / "result.md",
    )
    check(result, out, tables=2)
    three, scar = ({row["name"]: row for row in table["rows"]} for table in result["tables"])
    assert {row["augmented_views"] for name, row in three.items() if name.startswith("ours")} == {2}
    assert {row["augmented_views"] for name, row in scar.items() if name.startswith("ours")} == {1}
    (union,) = (row for name, row in three.items() if "FoundAD" in name)
    assert union["ratio_per_view"] == pytest.approx(union["ratio"] / 2)
    fresh = (name for name in three if name.startswith(("ours", "limit")) and "out=" not in name)
    assert all(three[name]["memory"] >= 1 for name in fresh)
    assert three["ours, float32, contiguous, out="]["memory"] < 1
    assert not any(table["skipped"] for table in result["tables"])


@pytest.mark.slow
def test_training_step(load, tmp_path):
    out = tmp_path / "result.json"
    result = load("training_step").benchmark(
        batch_size=2,
        precision="32-true",
        image_size=64,
        backbone="resnet10t",
        num_images=4,
        file_size=64,
        updates=2,
        warmup=1,
        workers=[0],
        rounds=1,
        repeats=1,
        compiled=False,
        device="cpu",
        out=out,
        markdown=tmp_path / "result.md",
    )
    parts, networks = check(result, out, tables=2)["tables"]
    names = ("next_batch", "to_device", "resize", "augmentation", "network", "rest")
    for row in parts["rows"]:
        assert all(row[name] > 0 for name in names)
        assert sum(row[name] for name in names) == pytest.approx(1.0)
    assert len(networks["rows"]) == 4


def test_end_to_end(load, tmp_path):
    out = tmp_path / "result.json"
    result = load("end_to_end").benchmark(
        num_images=4,
        file_size=64,
        batch_size=2,
        updates=4,
        warmup=1,
        workers=[0],
        rounds=1,
        device="cpu",
        out=out,
        markdown=tmp_path / "result.md",
    )
    (table,) = check(result, out, tables=1)["tables"]
    assert [row["name"].split(",")[0] for row in table["rows"]] == ["stock loader", "images in memory"]
    for row in table["rows"]:
        assert 0 < row["first_update_seconds"] < row["run_seconds"]
        assert row["final_loss"] > 0
        assert 0 <= row["image_auroc"] <= 1


def test_patch_scoring(load, tmp_path, mvtec_root):
    model = CutPastePatch(backbone="test_efficientnet", image_size=64, max_updates=1, visualizer=False)
    engine = Engine(default_root_dir=tmp_path, limit_val_batches=0, enable_progress_bar=False, accelerator="cpu")
    engine.fit(model, datamodule=MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0))
    out = tmp_path / "result.json"
    ways = ["windows, stride 8, float32", "windows, stride 8, bfloat16", "convolutional, stride 8, float32"]
    script = load("patch_scoring")
    options = {"ways": ways, "devices": ["cpu"], "repeats": 1, "out": out, "markdown": tmp_path / "result.md"}
    result = script.benchmark("test_efficientnet", image_size=64, **options)
    check(result, out, tables=1)
    assert [row["name"] for row in result["tables"][0]["rows"]] == ways
    trained = {"ckpt_path": engine.best_model_path, "root": mvtec_root, "category": "plate"}
    rows = script.benchmark("test_efficientnet", image_size=64, **options, **trained)["tables"][1]["rows"]
    assert [row["name"] for row in rows] == ways
    assert all(0 <= row[name] <= 100 for row in rows for name in ("image", "pixel"))


MODELS = """
benchmark:
  model:
    grid:
      - {class_path: CutPaste, init_args: {image_size: 64, backbone: test_resnet, max_updates: {grid: [1, 2]}}}
      - {class_path: CutPaste, init_args: {image_size: 64, backbone: test_resnet}, untrained: true}
      - {class_path: Padim, init_args: {backbone: test_resnet, layers: [layer2], n_features: 4}, label: Gaussians}
      - {class_path: Patchcore, init_args: {backbone: test_resnet, layers: [layer2], coreset_sampling_ratio: 0.01}}
  data: {class_path: MVTecAD, init_args: {root: nowhere, category: {grid: [bottle, cable]}}}
"""


@pytest.fixture
def model_speed(load, tmp_path):
    """The benchmark of these models, at its smallest."""
    path = tmp_path / "models.yaml"
    path.write_text(MODELS)
    return partial(load("model_speed").benchmark, path, (1, 2), devices=["cpu"], repeats=1)


def test_model_speed(model_speed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nncf", None)
    out, ways = tmp_path / "result.json", ["PyTorch, float32", "OpenVINO, int8"]
    result = model_speed(ways=ways, out=out, markdown=tmp_path / "result.md")
    assert json.loads(out.read_text()) == json.loads(json.dumps(result))
    (table,) = result["tables"]
    names = ["CutPaste, 64x64", "CutPaste, 64x64, 2", "Gaussians, 256x256", "Patchcore, 256x256"]
    assert [(row["name"], row["way"]) for row in table["rows"]] == list(product(names, ways))
    for measured, missing in zip(table["rows"][::2], table["rows"][1::2], strict=True):
        for size in (1, 2):
            assert measured[f"ratio_{size}"] == 1
            assert measured[f"quartile_seconds_{size}"] == pytest.approx(
                2 * [size / measured[f"images_per_second_{size}"]]
            )
        assert set(missing) == {"name", "way"}
        assert table["skipped"][f"{missing['name']}, OpenVINO, int8"] == "RuntimeError: nncf is not installed"
    with pytest.raises(ValueError, match="models must be"):
        model_speed(models=["Patchcore", "SSM"])


@pytest.mark.slow
def test_model_speed_of_exports(model_speed):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    models, ways = ["Padim", "CutPaste"], ["PyTorch, bfloat16", "ONNX Runtime", "OpenVINO, float32", "OpenVINO, int8"]
    (table,) = model_speed(models=models, ways=ways)["tables"]
    assert {row["way"] for row in table["rows"]} == set(ways)
    assert all(row[f"images_per_second_{size}"] > 0 for row in table["rows"] for size in (1, 2))
    assert table["skipped"] == {}


def test_planted_and_real_defects_tell_models_of_one_class_apart(load, tmp_path):
    planted = load("planted_and_real")
    defects = [{"family": "stain", "scores": {"CutPaste": 1.0}, "hits": {"CutPaste": True}}]
    common = {"models": {"CutPaste": {"sound_scores": [0.0]}}, "defects": defects}
    common["real"] = {"CutPaste": {"auroc": 0.9, "hits": {"count": 1, "total": 2}}}
    path, found = tmp_path / "qualification.json", {}
    for kind, category in product(("3way", "union"), ("bottle", "tile")):
        settings = {"category": category, "ckpt_paths": {"CutPaste": f"{kind}/{category}/model.ckpt"}}
        path.write_text(json.dumps({**common, "settings": settings}), encoding="utf-8")
        found[kind, category] = planted.lines(path)[0]["model"]
    assert found["3way", "bottle"] == found["3way", "tile"] != found["union", "tile"] == found["union", "bottle"]


def test_ssm_inference(load, tmp_path):
    out, ways = tmp_path / "result.json", ["2 passes", "1 pass", "1 pass, checkerboards"]
    small = {"widths": (4, 8), "image_size": 64, "defect_size": 8, "devices": ["cpu"], "repeats": 1, "min_seconds": 0.0}
    script = load("ssm_inference")
    result = script.benchmark(ways=ways, out=out, markdown=tmp_path / "result.md", **small)
    (table,) = check(result, out, tables=1)["tables"]
    two_passes, one_pass, boards = table["rows"]
    assert [row["name"] for row in table["rows"]] == ways
    # Nine masked images to a pass; of four images, the three without a defect need no second one.
    assert 9 < two_passes["restorations"] <= 9 + 9 / 4
    assert 0.75 < two_passes["uncovered"] < 1
    assert (one_pass["restorations"], one_pass["uncovered"]) == (9, 0)
    assert (boards["restorations"], boards["uncovered"]) == (6, 0)
    with pytest.raises(ValueError, match="go together"):
        script.benchmark(data=tmp_path)


def test_ssm_inference_of_a_checkpoint(load, tmp_path, mvtec_root):
    model = SSM((4, 8), image_size=64, max_updates=1, visualizer=False)
    engine = Engine(default_root_dir=tmp_path, limit_val_batches=0, enable_progress_bar=False, accelerator="cpu")
    engine.fit(model, datamodule=MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0))
    engine.trainer.save_checkpoint(tmp_path / "model.ckpt")
    out, ways = tmp_path / "result.json", ["2 passes", "3 passes", "1 pass"]
    result = load("ssm_inference").benchmark(
        batch_size=2,
        ways=ways,
        devices=["cpu"],
        repeats=1,
        min_seconds=0.0,
        ckpt_path=tmp_path / "model.ckpt",
        data=mvtec_root / "plate",
        out=out,
    )
    (table,) = check(result, out, tables=1)["tables"]
    assert [row["name"] for row in table["rows"]] == ways
    assert all(9 <= row["restorations"] <= 27 for row in table["rows"])


def test_first_hour_on_a_gpu_goes_on_where_it_failed(load, tmp_path, monkeypatch):
    gpu = load("gpu")
    asked, broken, really_run = [], {"waits.py"}, subprocess.run

    def run(command, stdout=None, **options):
        if command[0] == "git":
            return really_run(command, **options)
        asked.append(
            next(name for name in ("pytest", ".py", "benchmark") if any(name in part for part in command[1:4]))
        )
        script = Path(command[1]).name
        stdout.write("93 skipped" if "pytest" in command else "said something")
        if script in broken:
            return SimpleNamespace(returncode=1)
        if "--out" in command:
            rows = [{"name": "ours", "images_per_second": 12.345, "quartile_seconds": [1, 2]}]
            result = {"tables": [{"title": f"Table of {script}", "rows": rows}]}
            Path(command[command.index("--out") + 1]).write_text(json.dumps(result))
        if "benchmark" in command:
            table = Path(command[command.index("--output") + 1]) / "results.csv"
            table.parent.mkdir(exist_ok=True)
            table.write_text("job,model,image_AUROC,peak_memory,error\na,NSA,,,out of memory\na,NSA,0.9,100.0,\n")
        return SimpleNamespace(returncode=5 if "pytest" in command else 0)

    monkeypatch.setattr(gpu.subprocess, "run", run)
    folders = {"output": tmp_path / "run", "pages": tmp_path / "pages"}
    text = gpu.first_hour(pretend=True, **folders).read_text()
    assert asked == ["pytest", ".py", ".py", ".py", "benchmark"]
    assert "| tests | 93 skipped |" in text
    assert "| waits | failed: said something |" in text
    assert "| NSA | 0.9 | 100 |  |" in text
    assert "out of memory" not in text, "it was done again"
    assert "## Table of training_step.py\n\n| name | images_per_second |\n| --- | --- |\n| ours | 12.35 |" in text
    assert "waits.py" not in text
    broken.clear()
    text = gpu.first_hour(pretend=True, **folders).read_text()
    assert asked[5:] == [".py"]
    assert "## Table of waits.py" in text
    (file,) = (tmp_path / "pages").glob("*-pretended.json")
    assert json.loads(file.read_text())["trainings"][0]["image_AUROC"] == 0.9
    gpu.first_hour(pretend=True, categories=["tile"], data_root=tmp_path / "other", **folders)
    assert len(asked) > 6, "what was done with other data does not count"
    monkeypatch.setattr(gpu, "describe_machine", lambda: {"gpu": None, "cpu": "some"})
    with pytest.raises(RuntimeError, match="--pretend true"):
        gpu.first_hour(**folders)


def test_waits_of_updates_are_counted_by_place_after_the_first_ones(load):
    watch = load("waits").Watch(skipped=1)
    for update in (1, 2, 3):
        watch.on_train_batch_start(None)
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        warnings.warn("of no interest", UserWarning, stacklevel=1)
        watch.on_train_batch_end(SimpleNamespace(global_step=update))
    assert watch.updates == 2
    ((place, count),) = watch.found.items()
    assert place.startswith("tests/benchmarks/test_benchmarks.py, line ")
    assert count == 2
