# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl qualify``: any model's checkpoint, a page that needs nothing else, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import Folder, MVTecAD
from anomalib.deploy import TorchInferencer
from anomalib.engine import Engine
from anomalib.models import Dfkde, Padim, get_model
from anomalib.pre_processing import PreProcessor
from PIL import Image
from torchvision.transforms.v2 import Resize

from anomalib_ssl import cli
from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.image_files import find_images, read_image
from anomalib_ssl.qualification.scores import score
from anomalib_ssl.qualification.sound import SoundImages, find_sound

QUICK = ("--families", "[patch,stain]", "--sizes", "[4,10,24]", "--contrasts", "[0.1,0.3]", "--repeats", 4)


def padim(**arguments):
    small = {"backbone": "resnet18", "layers": ["layer1"], "n_features": 8, "pre_trained": False, "visualizer": False}
    return Padim(pre_processor=PreProcessor(Resize((80, 80), antialias=True)), **{**small, **arguments})


def trained(model, root, folder):
    engine = Engine(accelerator="cpu", default_root_dir=folder, logger=False, enable_progress_bar=False)
    data = MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0)
    engine.fit(model, datamodule=data)
    engine.trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.fixture(scope="module")
def padim_checkpoint(mvtec_root, tmp_path_factory):
    torch.manual_seed(0)
    return trained(padim(), mvtec_root, tmp_path_factory.mktemp("padim"))


@pytest.fixture(scope="module")
def cutpaste_checkpoint(mvtec_root, tmp_path_factory):
    model = get_model("cut_paste", backbone="test_resnet", image_size=64, max_updates=4, seed=0, visualizer=False)
    return trained(model, mvtec_root, tmp_path_factory.mktemp("cutpaste"))


@pytest.fixture
def run(capsys, tmp_path):
    """Run the command: its exit code, its error, and the folder with what it wrote."""

    def command(*arguments, output="out"):
        capsys.readouterr()
        code = cli.main(["qualify", *map(str, arguments), "--output", str(tmp_path / output)])
        return code, capsys.readouterr().err, tmp_path / output

    return command


def record_of(folder):
    return json.loads((folder / "qualification.json").read_text())


def test_two_models_on_one_page(run, padim_checkpoint, cutpaste_checkpoint, mvtec_root):
    data = ("--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--real")
    code, _, folder = run(padim_checkpoint, cutpaste_checkpoint, "--model", "[Padim,CutPaste]", *data, *QUICK)
    assert code == 0
    record, page = record_of(folder), (folder / "qualification.html").read_text()
    assert list(record["models"]) == ["Padim", "CutPaste"]
    assert "4 sound test images of MVTecAD plate" in record["sound"]["origin"]
    assert len(record["defects"]) + sum(one["count"] for one in record["left_out"]) == 2 * 3 * 2 * 4
    for name, model in record["models"].items():
        hits = [defect["scores"][name] > model["threshold"]["value"] for defect in record["defects"]]
        assert hits == [defect["hits"][name] for defect in record["defects"]]
        assert model["hits"]["count"] == sum(hits)
        assert max(model["sound_scores"]) == model["threshold"]["value"]  # of four images the highest is all there is
        assert "4 sound images are too few for a rate of 0.05, which takes 19" in model["threshold"]["note"]
        assert model["own_threshold"] is not None
        assert 0 <= record["real"][name]["auroc"] <= 1
        assert record["real"][name]["kinds"].keys() == {"spot"}
    whole = record["pairs"][0]
    assert whole["family"] == "all families"
    assert whole["both"] + whole["first"] == record["models"]["Padim"]["hits"]["count"]
    assert whole["both"] + whole["second"] == record["models"]["CutPaste"]["hits"]["count"]
    assert whole["both"] + whole["first"] + whole["second"] + whole["neither"] == len(record["defects"])
    kinds = {(curve["family"], curve["over"]) for curve in record["curves"]}
    assert kinds == {(family, over) for family in ("all families", "patch", "stain") for over in ("size", "contrast")}
    assert "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert page.count("<svg") == 6
    assert "too few" in page
    assert (folder / "figures/patch_size.png").is_file()
    assert (folder / "figures/all_families_contrast.svg").is_file()


def test_the_same_again_and_another_seed(run, padim_checkpoint, mvtec_root):
    arguments = ("--ckpt_path", padim_checkpoint, "--model", "padim", "--data", mvtec_root / "plate", *QUICK)
    first, again = (record_of(run(*arguments, output=name)[2]) for name in ("a", "b"))
    assert first == again
    other = record_of(run(*arguments, "--seed", 1, output="c")[2])
    assert first["models"]["Padim"]["sound_scores"] == other["models"]["Padim"]["sound_scores"]
    assert first["defects"] != other["defects"]


def test_scores_are_raw(padim_checkpoint, mvtec_root):
    model = load_checkpoint(padim_checkpoint, "Padim")
    paths = find_images("data", mvtec_root / "plate/test/spot")
    scored = score(model, SoundImages(paths))
    with torch.no_grad():
        expected = [model.model(model.pre_processor.transform(read_image(path)[None])) for path in paths]
    np.testing.assert_allclose(scored.scores, [float(one.pred_score) for one in expected], rtol=1e-4)
    for heat, one in zip(scored.maps, expected, strict=True):
        torch.testing.assert_close(heat, one.anomaly_map[0, 0], rtol=1e-3, atol=1e-3)
    assert scored.scores.max() > 1


def test_no_checkpoint_is_overwritten_and_the_page_is_there_before_the_rest(
    run, padim_checkpoint, mvtec_root, tmp_path, monkeypatch
):
    given = tmp_path / "own/Padim.ckpt"
    given.parent.mkdir()
    shutil.copy(padim_checkpoint, given)
    options = ("--model", "Padim", "--data", mvtec_root / "plate/train/good", "--false_alarms", 0.3, *QUICK)
    code, error, _ = run(given, *options, output="own")
    assert code == 2
    assert "is a checkpoint that was given, and would be overwritten" in error
    assert given.read_bytes() == padim_checkpoint.read_bytes()

    def fail(*args):
        msg = "no space left on device"
        raise OSError(msg)

    with monkeypatch.context() as patch:
        patch.setattr("anomalib_ssl.qualification.misses.picture", fail)
        code, error, folder = run(given, *options, output="figures")
    assert code != 0
    assert "no space left" in error
    assert record_of(folder)["defects"]
    monkeypatch.setattr("anomalib_ssl.commands.qualify.write_rethresholded", fail)
    code, error, folder = run(given, *options)
    assert code != 0
    assert "no space left" in error
    assert "Qualification of Padim" in (folder / "qualification.html").read_text(encoding="utf-8")


def test_the_threshold_goes_where_the_model_goes(run, padim_checkpoint, mvtec_root, tmp_path, monkeypatch):
    plate = mvtec_root / "plate"
    code, _, folder = run(
        padim_checkpoint, "--model", "Padim", "--data", plate / "train/good", "--false_alarms", 0.3, *QUICK
    )
    assert code == 0
    model = record_of(folder)["models"]["Padim"]
    value = model["threshold"]["value"]
    assert sorted(model["sound_scores"])[-2] == value  # the second highest of six
    before, after = (load_checkpoint(path, "Padim") for path in (padim_checkpoint, folder / "Padim.ckpt"))
    assert float(after.post_processor.image_threshold) == pytest.approx(value, rel=1e-6)
    for name, tensor in before.state_dict().items():
        if name != "post_processor._image_threshold":
            torch.testing.assert_close(after.state_dict()[name], tensor, equal_nan=True)

    monkeypatch.setenv("TRUST_REMOTE_CODE", "1")
    engine = Engine(accelerator="cpu", default_root_dir=tmp_path, logger=False)
    predicting = padim()
    found = engine.predict(predicting, data_path=plate / "train/good", ckpt_path=folder / "Padim.ckpt")
    assert float(predicting.post_processor.image_threshold) == pytest.approx(value, rel=1e-6)
    assert sum(int(batch.pred_label.sum()) for batch in found) == 1
    exported = engine.export(padim(), "torch", export_root=tmp_path, ckpt_path=folder / "Padim.ckpt")
    inferencer = TorchInferencer(exported, device="cpu")
    paths = [*find_images("data", plate / "train/good"), *find_images("data", plate / "test")]
    raw = score(before, SoundImages(paths)).scores
    called = [bool(inferencer.predict(path).pred_label) for path in paths]
    clear = np.abs(raw - value) > 1e-4 * value
    assert clear.sum() >= len(paths) - 2  # the threshold is the score of one of them
    assert [label for label, sure in zip(called, clear, strict=True) if sure] == (raw > value)[clear].tolist()
    assert sum(called[:6]) == 1


def test_of_a_model_without_maps_there_is_no_location(run, mvtec_root, tmp_path):
    torch.manual_seed(0)
    model = Dfkde(backbone="resnet18", layers=["layer4"], pre_trained=False, n_pca_components=2, visualizer=False)
    model.pre_processor = PreProcessor(Resize((64, 64), antialias=True))
    checkpoint = trained(model, mvtec_root, tmp_path)
    code, error, folder = run(checkpoint, "--model", "Dfkde", "--data", mvtec_root / "plate", *QUICK)
    assert code == 0, error
    assert record_of(folder)["models"]["Dfkde"]["located"] == {}
    page = (folder / "qualification.html").read_text()
    assert "Dfkde gives no maps" in page or "Dfkde found no defect" in page


def test_training_images_are_a_warning(run, padim_checkpoint, mvtec_root):
    data = ("--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--sound", "train")
    code, _, folder = run(padim_checkpoint, "--model", "Padim", *data, *QUICK)
    assert code == 0
    assert record_of(folder)["sound"]["origin"] == "1 of the 6 training images of MVTecAD plate"
    assert "Training may have seen these images" in (folder / "qualification.html").read_text()


def test_images_held_out_of_training_are_none(tmp_path):
    (tmp_path / "good").mkdir()
    for number in range(24):
        Image.new("RGB", (20, 20), (number, 0, 0)).save(tmp_path / f"good/{number:02d}.png")
    data = Folder("parts", root=tmp_path, normal_dir="good", test_split_mode="none", val_split_mode="none")
    held_out = SimpleNamespace(_held_out=SimpleNamespace(share=0.25))
    sound = find_sound(data, "train", [held_out])
    assert (len(sound.images), sound.warning) == (6, "")
    assert "held out of training" in sound.origin
    for models in ([object()], [held_out, object()]):
        assert "may have seen" in find_sound(data, "train", models).warning


def test_bad_input_is_refused_before_any_work(run, padim_checkpoint, cutpaste_checkpoint, mvtec_root, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny").mkdir()
    Image.new("RGB", (12, 12)).save(tmp_path / "tiny/0.png")
    plate = ("--data", mvtec_root / "plate")
    mine = (padim_checkpoint, "--model", "Padim")
    cases = {
        (*mine, "--data", tmp_path / "empty"): "data: no images",
        (*mine, "--data", tmp_path / "tiny"): "images must have sides of at least 16 pixels",
        (*mine, *plate, "--sizes", "[60]"): "sizes must be at most half the shorter side of the images, which is 80",
        (padim_checkpoint, *plate): "does not say of which model it is",
        (padim_checkpoint, "--model", "Patchcore", *plate): "is no checkpoint of Patchcore",
        (padim_checkpoint, "--model", "Nothing", *plate): "model must be one of",
        (cutpaste_checkpoint, "--model", "Padim", *plate): "is a checkpoint of CutPaste, not of Padim",
        (*plate,): "one checkpoint must be given, or two, got 0",
        (padim_checkpoint, padim_checkpoint, "--model", "Padim", *plate): "was given twice",
        (padim_checkpoint, "--model", "[Padim,Padim]", *plate): "one for each of the 1 checkpoints",
        (tmp_path / "none.ckpt", "--model", "Padim", *plate): "is no file that can be read",
        (*mine, *plate, "--false_alarms", 0): "false_alarms must lie in [0.0001, 0.5], got 0",
        (*mine, *plate, "--pixel_size", 0): "pixel_size must lie in",
        (*mine, *plate, "--real"): "real: needs a datamodule",
    }
    for arguments, message in cases.items():
        code, error, folder = run(*arguments)
        assert code == 2, arguments
        assert message in error
        assert "Traceback" not in error
        assert not (folder / "qualification.json").exists()


def test_scores_that_are_not_finite_are_refused(run, padim_checkpoint, mvtec_root, tmp_path):
    broken = tmp_path / "broken.ckpt"
    saved = torch.load(padim_checkpoint, weights_only=True)
    saved["state_dict"]["model.gaussian.mean"][:] = float("nan")
    torch.save(saved, broken)
    code, error, _ = run(broken, "--model", "Padim", "--data", mvtec_root / "plate", *QUICK)
    assert code == 2
    assert "Padim gives scores that are not finite, to 4 of 4 images" in error


def test_a_threshold_that_would_be_left_out_is_refused(run, mvtec_root, tmp_path):
    from anomalib.post_processing import PostProcessor

    torch.manual_seed(0)
    model = padim(post_processor=PostProcessor(enable_normalization=False))
    checkpoint = trained(model, mvtec_root, tmp_path)
    code, error, _ = run(checkpoint, "--model", "Padim", "--data", mvtec_root / "plate", "--false_alarms", 0.3, *QUICK)
    assert code == 2
    assert "does not normalise scores" in error


@pytest.mark.slow
def test_two_images_and_a_process_of_its_own(padim_checkpoint, mvtec_root, tmp_path):
    (tmp_path / "sound").mkdir()
    for path in find_images("data", mvtec_root / "plate/test/good")[:2]:
        shutil.copy(path, tmp_path / "sound")
    code = "import sys; from anomalib_ssl.cli import main; sys.exit(main())"
    arguments = ["qualify", "--ckpt_path", padim_checkpoint, "--model", "Padim", "--data", tmp_path / "sound", *QUICK]
    command = [sys.executable, "-c", code, *map(str, arguments), "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "out/qualification.html")
    assert "too few" in (tmp_path / "out/qualification.html").read_text()
