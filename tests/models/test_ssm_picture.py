# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The picture of the refinement, and the command that draws it."""

import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from PIL import Image

from anomalib_ssl import SSM, CutPaste
from anomalib_ssl.models.ssm import RefinementPass
from anomalib_ssl.models.ssm.picture import draw_refinement, refine

mpl.use("agg")


def save_checkpoint(model, mvtec_root, folder) -> Path:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    engine = Engine(default_root_dir=folder, limit_val_batches=0, **quiet)
    engine.fit(model, datamodule=MVTecAD(root=mvtec_root, category="plate", train_batch_size=2, num_workers=0))
    path = folder / "model.ckpt"
    engine.trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, mvtec_root) -> Path:
    """An SSM for images twice as wide as high."""
    arguments = {"image_size": (32, 64), "max_updates": 2, "cell_sizes": (32, 128), "map_sigma": 2.0}
    model = SSM((4, 8, 8), **arguments, visualizer=False)
    return save_checkpoint(model, mvtec_root, tmp_path_factory.mktemp("ssm"))


def size_of(path) -> tuple[int, int]:
    return Image.open(path).size


def test_command(checkpoint, mvtec_root, tmp_path):
    executable = Path(sys.executable).with_name("anomalib-ssl")
    flags = ["--ckpt_path", checkpoint, "--data", mvtec_root / "plate", "--rows", 2, "--output", "new/picture.png"]
    command = [str(part) for part in (executable, "refine", *flags)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.strip().splitlines()[-1] == "new/picture.png"
    width, height = size_of(tmp_path / "new/picture.png")
    # Eight panels, twice as wide as high, with titles and captions.
    assert 4 < width / height < 8


def test_rows_and_passes_count(checkpoint, mvtec_root, tmp_path):
    def size(rows, passes=None):
        return size_of(refine(checkpoint, mvtec_root / "plate", passes, rows, output=tmp_path / "picture.png"))

    width, height = size(1)
    taller = size(3)
    assert taller[0] == width
    assert taller[1] > height + 200
    assert size(1, 1) == (pytest.approx(width * 5 / 8, abs=8), height)
    # More passes than the model was trained with.
    assert size(1, 3) == (pytest.approx(width * 11 / 8, abs=8), height)
    # No more rows than there are images.
    assert size(20)[1] == pytest.approx(height + 7 * (taller[1] - height) / 2, abs=8)


def test_same_seed_same_bytes(checkpoint, mvtec_root, tmp_path):
    files = [
        refine(checkpoint, mvtec_root / "plate", rows=2, seed=seed, output=tmp_path / f"{number}.png").read_bytes()
        for number, seed in enumerate((0, 0, 1))
    ]
    assert files[0] == files[1]
    assert files[0] != files[2]


def test_chosen_images_of_any_size_and_kind(checkpoint, mvtec_root, tmp_path):
    source = mvtec_root / "plate/test/spot/000.png"
    Image.open(source).convert("L").resize((50, 20)).save(tmp_path / "gray.jpg")
    chosen = [tmp_path / "gray.jpg", source]
    one = size_of(refine(checkpoint, source, output=tmp_path / "one.png"))
    two = size_of(refine(checkpoint, chosen, output=tmp_path / "two.png"))
    assert two[1] > one[1] + 80


def shown(axes):
    """What a panel displays, as an array (H, W, 3)."""
    return np.asarray(axes.images[0].get_array())


def test_panels_show_what_was_recorded():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 16, 16, generator=generator)
    masks = torch.ones(2, 3, 1, 1, 16, 16)
    masks[-1, 0, ..., :8, :] = 0
    uncovered = torch.zeros(1, 1, 16, 16)
    uncovered[..., 8:, :] = 1
    restored = torch.rand(2, 1, 3, 16, 16, generator=generator) * 2 - 0.5
    errors, anomaly_map = torch.zeros(2, 1, 1, 16, 16), torch.zeros(1, 1, 16, 16)
    errors[-1, ..., 3, 4] = 0.5
    anomaly_map[..., 3, 4] = 0.25
    recorded = [RefinementPass(uncovered, masks, restored, errors, anomaly_map)]
    figure = draw_refinement(images, [recorded], ["good/one.png"])
    picture, hidden, composite, error, heat = figure.axes
    pixels = images[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(shown(picture), pixels)
    np.testing.assert_allclose(shown(hidden)[8:], pixels[8:])
    assert (shown(hidden)[:8] < pixels[:8]).all()
    np.testing.assert_allclose(shown(composite), restored[-1, 0].clamp(0, 1).permute(1, 2, 0).numpy())
    brightness = shown(error).sum(axis=-1)
    assert np.unravel_index(brightness.argmax(), brightness.shape) == (3, 4)
    np.testing.assert_allclose(shown(error)[3, 4], mpl.colormaps["inferno"](1.0)[:3])
    # A grey image but where there is a score.
    grey = np.repeat(pixels.mean(axis=-1, keepdims=True), 3, axis=-1)
    assert np.argwhere(~np.isclose(shown(heat), grey).all(axis=-1)).tolist() == [[3, 4]]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["input", "pass 1: hidden", "restored", "error", "map"]
    captions = [axes.texts[0].get_text() for axes in figure.axes]
    assert captions == ["good/one.png", "50% uncovered", "", "", "score 0.2500"]


def test_colours_mean_the_same_in_all_rows():
    def recorded(value):
        error = torch.full((1, 1, 1, 8, 8), value)
        nothing, masks = torch.zeros(1, 1, 8, 8), torch.ones(1, 2, 1, 1, 8, 8)
        return [RefinementPass(nothing, masks, nothing.expand(1, 1, 3, 8, 8), error, error[0])]

    figure = draw_refinement(torch.zeros(2, 3, 8, 8), [recorded(0.1), recorded(0.2)])
    for axes, share in zip(figure.axes[3::5], (0.5, 1.0), strict=True):
        np.testing.assert_allclose(shown(axes)[0, 0], mpl.colormaps["inferno"](share)[:3], atol=0.02)
    # Nothing anywhere, everything uncovered: no division by zero.
    draw_refinement(torch.zeros(1, 3, 8, 8), [recorded(0.0)])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ckpt_path": Path("nowhere.ckpt")}, FileNotFoundError, "ckpt_path: there is no file 'nowhere.ckpt'"),
        ({"data": Path("nowhere")}, FileNotFoundError, "there is no folder 'nowhere'"),
        ({"data": [Path("a.png"), Path("b.png")]}, FileNotFoundError, "there is no image 'a.png'"),
        ({"data": []}, FileNotFoundError, "no images were given"),
        ({"rows": 0}, ValueError, "rows"),
        ({"passes": 0}, ValueError, "passes"),
        ({"output": Path("picture.jpg")}, ValueError, "output must name a .png file, got 'picture.jpg'"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message, checkpoint, mvtec_root):
    with pytest.raises(error, match=message):
        refine(**{"ckpt_path": checkpoint, "data": mvtec_root / "plate", **arguments})


def test_what_is_no_checkpoint_or_no_image_is_named(checkpoint, mvtec_root, tmp_path):
    image = mvtec_root / "plate/test/good/000.png"
    other = CutPaste(backbone="test_resnet", image_size=64, max_updates=1, visualizer=False)
    for path in (save_checkpoint(other, mvtec_root, tmp_path), shutil.copy(image, tmp_path / "image.ckpt")):
        with pytest.raises(ValueError, match=f"{Path(path).name}' is no checkpoint of SSM"):
            refine(path, image)
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(ValueError, match=r"broken\.png' is no image"):
        refine(checkpoint, tmp_path / "broken.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images"):
        refine(checkpoint, tmp_path / "empty")


def test_a_checkpoint_that_is_not_for_scoring_is_named(checkpoint, mvtec_root, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["state_dict"]["model.num_fitted"].zero_()
    torch.save(saved, tmp_path / "broken_off.ckpt")
    with pytest.raises(ValueError, match=r"broken_off\.ckpt' was written while a run broke off"):
        refine(tmp_path / "broken_off.ckpt", mvtec_root / "plate/test/good/000.png")


def test_as_many_recordings_as_images():
    with pytest.raises(ValueError, match="equally many, got 2, 0 and 2"):
        draw_refinement(torch.zeros(2, 3, 8, 8), [])
