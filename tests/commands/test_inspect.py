# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""``anomalib-ssl inspect``: every model's pictures and numbers, and what is refused."""

import io
import pickle
import re
import runpy
import zipfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pytest
import torch
from anomalib.models import Padim
from lightning.pytorch import Trainer
from PIL import Image

from anomalib_ssl import SSM, cli
from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.image_files import read_image
from anomalib_ssl.inspection import Column, draw, inspect_candidates
from anomalib_ssl.training.checkpointing import MODEL
from anomalib_ssl.training.mixin import SelfSupervisedMixin

contract = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "models/test_contract.py")))


@pytest.fixture(scope="module")
def checkpoint(mvtec_root, tmp_path_factory):
    """The checkpoint of a model of some updates, by the model's name."""

    @cache
    def trained(name):
        folder = tmp_path_factory.mktemp(name)
        engine = contract.engine(folder, limit_val_batches=0)
        engine.fit(contract.build(name), datamodule=contract.plate(mvtec_root))
        engine.trainer.save_checkpoint(folder / "model.ckpt")
        return folder / "model.ckpt"

    return trained


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command: its exit code, what it prints, its error, and the picture's bytes where one was written."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        capsys.readouterr()
        code = cli.main(["inspect", *map(str, arguments)])
        picture = Path("inspection.png")
        return code, *capsys.readouterr(), picture.read_bytes() if picture.exists() else b""

    return command


def listed(out):
    """First cell and the others of each printed row, also where first cells are alike."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    return [(first, cells) for first, *cells in lines]


def rows_of(out):
    """Cells of the printed table's rows, by the first one."""
    return dict(listed(out))


def size_of(picture):
    return Image.open(io.BytesIO(picture)).size


def inspected(model, images, seed=0):
    with torch.random.fork_rng(), torch.no_grad(), model.scoring_mode():
        torch.manual_seed(seed)
        return model.inspect(images)


def plates(root, count=3):
    files = sorted((root / "plate/test").rglob("*.png"))[:count]
    return torch.stack([torch.nn.functional.interpolate(read_image(file)[None], (64, 64))[0] for file in files])


@pytest.mark.parametrize("name", contract.MODELS)
def test_every_model_is_drawn(name, checkpoint, mvtec_root, run):
    path, state = checkpoint(name), torch.get_rng_state()
    code, out, _, picture = run(mvtec_root / "plate", "--ckpt_path", path, "--rows", 3)
    assert code == 0
    assert f"{name}, images: 3" in out
    assert out.splitlines()[-1] == "inspection.png"
    assert torch.equal(torch.get_rng_state(), state)
    assert run(mvtec_root / "plate", "--ckpt_path", path, "--rows", 3)[1:] == (out, "", picture)
    assert run(mvtec_root / "plate", "--ckpt_path", path, "--rows", 3, "--seed", 1)[3] != picture
    (width, height), (same, less) = size_of(picture), size_of(run(mvtec_root, "--ckpt_path", path, "--rows", 1)[3])
    assert (width, height > less + 400) == (same, True)


@pytest.mark.parametrize("name", contract.MODELS)
def test_maps_and_scores_are_those_of_the_model(name, checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint(name)), plates(mvtec_root)
    with torch.no_grad():
        scored = model.model(images)
    for inspection in (inspected(model, images), SelfSupervisedMixin.inspect(model, images)):
        first = inspection.columns[0]
        found = next(column for column in inspection.columns if column.title == "map")
        assert torch.equal(first.pictures, images)
        torch.testing.assert_close(found.pictures, scored.anomaly_map)
        assert list(found.captions) == [f"score {score:.4g}" for score in scored.pred_score.tolist()]
        assert all(len(column.pictures) == 3 for column in inspection.columns)
        assert len({tuple(row) for row in inspection.numbers}) == 1
    assert [row["score"] for row in inspection.numbers] == pytest.approx(scored.pred_score.tolist())


@pytest.mark.parametrize("name", contract.MODELS)
def test_candidates_are_shown_side_by_side(name, checkpoint, mvtec_root, run):
    code, out, error, picture = run(mvtec_root / "plate", "--ckpt_path", checkpoint(name), "--candidates", "true")
    model = load_checkpoint(checkpoint(name))
    assert code == 0, error
    names = {cells[0] for _, cells in listed(out)}
    assert {*model.model.scorer.score_names, *model.model.scorer.map_names} <= names
    used = {cells[0] for _, cells in listed(out) if cells[-1] == "yes"}
    assert used == {*model.model.scorer.chosen}
    # A panel for the images, and one for each map, joined ones that are in use included; 220 points wide and a margin.
    panels = {*model.model.scorer.map_names, model.model.scorer.chosen[1]}
    assert size_of(picture)[0] == pytest.approx(220 * (1 + len(panels)), abs=10)
    images = plates(mvtec_root)
    with torch.no_grad(), model.scoring_mode():
        shown = {column.title: column.pictures for column in inspect_candidates(model, images).columns}
        in_use = shown[f"{model.model.scorer.chosen[1]} (in use)"]
        torch.testing.assert_close(in_use, model.model(images).anomaly_map)


def test_numbers_of_ssm(checkpoint, mvtec_root, run):
    file = mvtec_root / "plate/test/spot/001.png"
    rows = rows_of(run(file, "--ckpt_path", checkpoint("SSM"))[1])
    model = load_checkpoint(checkpoint("SSM"))
    passes = model.model.refine(model.pre_processor.transform(read_image(file)[None]))
    assert sorted(rows) == ["1", "2"]
    for one, (_, values) in zip(passes, sorted(rows.items()), strict=True):
        hidden = one.uncovered == 0
        expected = [one.uncovered.mean(), one.errors[-1][hidden].mean(), one.anomaly_map.mean(), one.anomaly_map.max()]
        assert [float(value) for value in values] == pytest.approx([float(value) for value in expected], rel=1e-3)


def test_restorations_of_ssm_are_as_bright_as_the_images_beside_them(checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint("SSM")), 0.4 * plates(mvtec_root)
    gain = model.model.exposure.gain(images)
    assert gain.min() > 2
    with torch.no_grad():
        restored = [one.restored[-1] / gain for one in model.model.refine(images)]
    shown = [column.pictures for column in inspected(model, images).columns if column.title == "restored"]
    torch.testing.assert_close(shown, restored)


def test_numbers_of_the_autoencoder(checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint("AutoencoderProjection")), plates(mvtec_root)
    inspection = inspected(model, images)
    numbers = {row["property"]: row for row in inspection.numbers}
    corrupted = next(column for column in inspection.columns if column.title == "corrupted")
    assert torch.equal(corrupted.outlined, (corrupted.pictures != images).any(dim=1, keepdim=True) | corrupted.outlined)
    with torch.no_grad():
        restored = model.model.autoencoder(corrupted.pictures)
        fixed = (model.model.autoencoder(images) - images).square().mean(dim=(1, 2, 3)).sqrt()
    recovery = (restored - images).flatten(1).norm(dim=1) / (corrupted.pictures - images).flatten(1).norm(dim=1)
    for name, values in (("recovery", recovery), ("fixed point", fixed)):
        assert numbers[name]["mean"] == pytest.approx(float(values.mean()), rel=1e-4)
        assert numbers[name]["median"] == pytest.approx(float(values.median()), rel=1e-4)
    assert numbers["Jacobian symmetry"]["projection"] == "1"


@pytest.mark.parametrize("name", ["CutPaste", "CutPastePatch"])
def test_numbers_of_cutpaste(name, checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint(name)), plates(mvtec_root)
    numbers = inspected(model, images, seed=3).numbers
    torch.manual_seed(3)
    views, labels = model.views(images)
    with torch.no_grad():
        logits = torch.cat([model.model.classify(view[None]) for view in views])
    for label, row in enumerate(numbers):
        own = logits[labels == label]
        assert row["accuracy"] == pytest.approx(float((own.argmax(dim=1) == label).float().mean()))
        assert row["p(scar)"] == pytest.approx(float(own.softmax(dim=1)[:, 2].mean()), abs=1e-5)
    assert [row["view"] for row in numbers] == ["normal", "patch", "scar"]


def test_several_networks_and_two_kinds_of_views(mvtec_root):
    model = contract.build("CutPaste", ensemble=2, variant="union").eval()
    model.fit_statistics([plates(mvtec_root, 8)])
    inspection = inspected(model, plates(mvtec_root))
    assert [column.title for column in inspection.columns] == ["input", "normal", "patch or scar", "map"]


def test_what_was_tuned_is_shown(checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint("STSSAD")), plates(mvtec_root)
    inspection = inspected(model, images)
    assert [row["view"] for row in inspection.numbers] == ["normal", "patch", "scar"]
    for name, paste in (("patch", model.views.patch), ("scar", model.views.scar)):
        assert f"; {name}: {paste} (mean distance " in inspection.note
    assert inspection.note.endswith("transductive: tuned with test images")


def test_stages_of_the_local_augmentation(checkpoint, mvtec_root):
    model, images = load_checkpoint(checkpoint("DynamicLocalAugmentation")), plates(mvtec_root)
    inspection = inspected(model, images)
    with torch.no_grad():
        distances = model.model.distance(model.model.measure(model.model.exposure(images))[0])
    shown = [column for column in inspection.columns if column.title.startswith("distance")]
    for row, column, expected in zip(inspection.numbers, shown, distances, strict=True):
        torch.testing.assert_close(column.pictures, expected)
        assert row["distance, mean"] == pytest.approx(float(expected.mean()))
        assert row["uncertainty, largest"] >= row["uncertainty, mean"]


@pytest.mark.parametrize("count", [1, 3])
def test_negatives_of_places_are_shown(checkpoint, mvtec_root, count):
    model, images = load_checkpoint(checkpoint("DynamicLocalAugmentation")), plates(mvtec_root)[:count]
    shown = {column.title: column for column in inspected(model, images).columns}
    view, negative = shown["view"].pictures, shown["local augmentation"]
    assert len(view) == len(negative.pictures) == len(shown["other view"].captions) == count
    # It is the view but for what the line goes around.
    assert torch.equal((negative.pictures != view).any(dim=1, keepdim=True), negative.outlined)
    assert 0 < negative.outlined.float().mean() < 1


def altered(path, target, **entries):
    saved = {**torch.load(path, weights_only=True), **entries}
    torch.save({key: value for key, value in saved.items() if value is not None}, target)
    return target


def test_older_checkpoints_need_the_name_of_the_model(checkpoint, mvtec_root, run, tmp_path):
    path, image = checkpoint("SSM"), mvtec_root / "plate/test/good/000.png"
    assert torch.load(path, weights_only=True)[MODEL] == "SSM"
    old = altered(path, tmp_path / "old.ckpt", **{MODEL: None})
    expected = run(image, "--ckpt_path", path)
    for name in ("ssm", "SSM"):
        assert run(image, "--ckpt_path", old, "--model", name) == expected
    for arguments, message in [
        ((old,), r"old\.ckpt' does not say of which model it is: give model, such as"),
        ((old, "--model", "cut_paste_patch"), r"ckpt_path: .*old\.ckpt' is no checkpoint of CutPastePatch"),
        ((old, "--model", "Nothing"), "model must be one of .*'SSM'.*got 'Nothing'"),
        ((path, "--model", "CutPaste"), r"ckpt_path: .*model\.ckpt' is a checkpoint of SSM, not of CutPaste"),
        ((altered(path, tmp_path / "own.ckpt", **{MODEL: "Mine"}),), "is a checkpoint of Mine: give the full path"),
    ]:
        refused(run(image, "--ckpt_path", *arguments), message)


class Mine(SSM):
    """A user's own model."""


def test_models_of_ones_own_are_given_by_the_path_of_their_class(checkpoint, mvtec_root, run, tmp_path):
    own = altered(checkpoint("SSM"), tmp_path / "own.ckpt", **{MODEL: "Mine"})
    name = f"{Mine.__module__}.Mine"
    assert type(load_checkpoint(own, name)) is Mine
    assert run(mvtec_root / "plate/test/good/000.png", "--ckpt_path", own, "--model", name)[0] == 0
    other = tmp_path / "padim.ckpt"
    of_padim(other)
    refused(run(mvtec_root, "--ckpt_path", other, "--model", "Padim"), "of Padim, which does not show its inside")


def refused(result, message):
    code, out, error, _ = result
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert re.search(message, error), error
    # What a library says of a file that is no checkpoint means nothing to the user.
    assert "ckpt_path" not in error or not re.search("Errno|pickle|Unpickl|index out of range|zip", error)


def of_padim(path):
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(Padim(pre_trained=False))
    trainer.save_checkpoint(path)


def of_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", "text")


FOREIGN = {
    "missing": lambda path: None,
    "folder": Path.mkdir,
    "empty": Path.touch,
    "text": lambda path: path.write_text("epoch,loss\n1,0.5\n"),
    "image": lambda path: Image.new("RGB", (9, 9)).save(path, "png"),
    "archive": of_zip,
    "pickle": lambda path: path.write_bytes(pickle.dumps({"state_dict": Path()})),
    "tensor": lambda path: torch.save(torch.zeros(3), path),
    "weights": lambda path: torch.save({"weight": torch.zeros(3)}, path),
    "padim": of_padim,
}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("named", [(), ("--model", "SSM")])
def test_what_is_no_checkpoint_is_refused(kind, named, mvtec_root, run, tmp_path):
    FOREIGN[kind](tmp_path / "some.ckpt")
    refused(
        run(mvtec_root, "--ckpt_path", tmp_path / "some.ckpt", *named), r"ckpt_path: .*some\.ckpt' (is no|does not)"
    )


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_part_of_a_checkpoint_is_refused(share, checkpoint, mvtec_root, run, tmp_path):
    whole = checkpoint("SSM").read_bytes()
    (tmp_path / "part.ckpt").write_bytes(whole[: int(share * len(whole))])
    refused(run(mvtec_root, "--ckpt_path", "part.ckpt"), r"ckpt_path: 'part\.ckpt' is no checkpoint, or not all of one")


def test_a_checkpoint_without_permission_is_refused(checkpoint, mvtec_root, run, monkeypatch):
    path, reader = checkpoint("SSM"), Path.open

    def guarded(self, *arguments):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return reader(self, *arguments)

    monkeypatch.setattr(Path, "open", guarded)
    refused(run(mvtec_root, "--ckpt_path", path), r"model\.ckpt' is no file that can be read: Permission denied")


@pytest.mark.parametrize("name", contract.MODELS)
def test_a_checkpoint_that_is_not_for_scoring_is_refused(name, checkpoint, mvtec_root, run, tmp_path):
    weights = torch.load(checkpoint(name), weights_only=True)["state_dict"]
    unfitted = {key: value * 0 if key.endswith("num_fitted") else value for key, value in weights.items()}
    path = altered(checkpoint(name), tmp_path / "broken_off.ckpt", state_dict=unfitted)
    refused(run(mvtec_root, "--ckpt_path", path), r"broken_off\.ckpt' was written while a run broke off")


def test_images_of_all_kinds(checkpoint, mvtec_root, run, tmp_path):
    plain = Image.open(mvtec_root / "plate/test/spot/000.png")
    plain.convert("L").resize((50, 20)).save(tmp_path / "grey.jpg")
    plain.convert("RGBA").save(tmp_path / "$alpha$ of a very long name that does not fit.png")
    plain.resize((1, 1)).save(tmp_path / "pixel.bmp")
    code, _, _, picture = run(*sorted(tmp_path.iterdir()), mvtec_root, "--ckpt_path", checkpoint("CutPaste"))
    assert code == 0
    assert size_of(picture)[1] > 4 * 200


def test_images_that_cannot_be_read_are_named(checkpoint, mvtec_root, run, tmp_path, monkeypatch):
    source = mvtec_root / "plate/test/spot/000.png"
    (tmp_path / "part.png").write_bytes(source.read_bytes()[:2000])
    (tmp_path / "text.png").write_text("no image")
    for name in ("part.png", "text.png", "missing.png"):
        refused(run(source, name, "--ckpt_path", checkpoint("SSM")), f"'{name}' cannot be read as an image")
    (tmp_path / "empty").mkdir()
    refused(run("empty", "--ckpt_path", checkpoint("SSM")), "images: no images .* in 'empty'")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused(
        run(source, "--ckpt_path", checkpoint("SSM")), r"spot/000\.png' cannot be read as an image: .*exceeds limit"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--rows", 0), "rows must lie in"),
        (("--rows", 101), "rows must lie in"),
        (("--seed", -1), "seed must lie in"),
        (("--output", "picture.jpg"), "output must name a .png file, got 'picture.jpg'"),
        (("--output", "/proc/picture.png"), "output must be a file that can be written"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_loaded(flags, message, mvtec_root, run):
    refused(run(mvtec_root, "--ckpt_path", "nowhere.ckpt", *flags), message)


def shown(axes):
    """What a panel displays, as an array (H, W, 3)."""
    return np.asarray(axes.images[0].get_array())


def test_panels_show_their_columns():
    images = torch.rand(2, 3, 8, 16, generator=torch.Generator().manual_seed(0)) * 2 - 0.5
    maps, region = torch.full((2, 1, 8, 16), -2.0), torch.zeros(2, 1, 8, 16)
    maps[1, 0, 3, 4] = 6
    region[0, :, 2:5, 2:5] = 1
    columns = [
        Column("input", images, ["$a", "b"], outlined=region),
        Column("error", maps),
        Column("error", maps / 2),
        Column("map", maps, over=images),
    ]
    figure = draw(columns)
    panels = np.reshape(figure.axes, (4, 2)).T
    np.testing.assert_allclose(shown(panels[1, 0]), images[1].clamp(0, 1).permute(1, 2, 0))
    assert [len(axes.collections) for axes in panels[:, 0]] == [1, 0]
    assert [axes.get_title() for axes in panels[0]] == ["input", "error", "error", "map"]
    assert [axes.texts[0].get_text() for axes in panels[:, 0]] == ["$a", "b"]
    # From -2 to 6 in both columns of the title.
    colours = mpl.colormaps["inferno"]
    np.testing.assert_allclose(shown(panels[1, 1])[3, 4], colours(1.0)[:3])
    np.testing.assert_allclose(shown(panels[1, 2])[3, 4], colours(5 / 8)[:3])
    np.testing.assert_allclose(shown(panels[0, 2])[0, 0], colours(1 / 8)[:3])
    # A grey image but where the map is not at its lowest.
    grey = np.repeat(images[1].clamp(0, 1).mean(dim=0).unsqueeze(-1).numpy(), 3, axis=-1)
    assert np.argwhere(~np.isclose(shown(panels[1, 3]), grey).all(axis=-1)).tolist() == [[3, 4]]
    # Nothing anywhere: no division by zero.
    assert np.isfinite(shown(draw([Column("map", torch.zeros(1, 1, 4, 4))]).axes[0])).all()
