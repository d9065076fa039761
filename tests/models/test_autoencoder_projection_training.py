# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""AutoencoderProjection trained by anomalib's engine and command line: steps, schedule, clipping, files, pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from PIL import Image
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_ssl import AutoencoderProjection
from anomalib_ssl.models.autoencoder_projection.visualizer import ReconstructionVisualizer
from anomalib_ssl.scoring import NotFittedError

SMALL = {"image_size": 32, "widths": (3, 4, 5), "sdc_layers": 1, "sdc_width": 3, "visualizer": False}


def data(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0, **kwargs)


def make_engine(path, *callbacks, **kwargs):
    return Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **kwargs,
    )


class Recorder(Callback):
    """Note the learning rate, the gradient's norm after clipping and the loss of every update."""

    def __init__(self):
        self.rates, self.norms, self.losses = [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_before_zero_grad(self, trainer, module, optimizer):
        gradients = [value.grad.norm() for value in module.model.parameters() if value.grad is not None]
        if gradients:
            self.norms.append(float(torch.stack(gradients).norm()))

    def on_train_batch_end(self, trainer, module, outputs, *args):
        self.losses.append(float(outputs["loss"]))


def test_train_test_and_predict(tmp_path, mvtec_root):
    model = AutoencoderProjection(**SMALL | {"visualizer": True}, max_updates=4, seed=0, map_statistics="standardize")
    engine = make_engine(tmp_path)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert len(predictions) == 4
    assert predictions[0].anomaly_map.shape[-2:] == (32, 32)
    assert predictions[0].pred_label is not None
    assert predictions[0].reconstruction.shape == (1, 3, 32, 32)
    # Six pictures a test image in a row: image, mask, map, prediction, reconstruction, error.
    pictures = [Image.open(path) for path in tmp_path.rglob("images/*/*.png")]
    assert len(pictures) >= 8
    assert {picture.size for picture in pictures} >= {(6 * 256, 256)}


def test_a_checkpoint_scores_as_the_model_did(tmp_path, mvtec_root):
    model = AutoencoderProjection(
        **SMALL, max_updates=3, seed=0, error_normalization="reconstruction", map_statistics="mean", skip="ccm"
    )
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = AutoencoderProjection.load_from_checkpoint(engine.best_model_path)
    assert loaded.input_size == (32, 32)
    assert loaded.model.autoencoder.dilations == (1, 2)
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = model.eval()(images), loaded.eval()(images)
    assert torch.equal(before.pred_score, after.pred_score)
    assert torch.equal(before.anomaly_map, after.anomaly_map)
    by_hand = make_engine(tmp_path / "again").test(
        model=AutoencoderProjection(**SMALL, error_normalization="reconstruction", map_statistics="mean", skip="ccm"),
        datamodule=data(mvtec_root),
        ckpt_path=engine.best_model_path,
    )
    assert by_hand == engine.test(model=model, datamodule=data(mvtec_root))


def test_it_learns_to_restore():
    torch.manual_seed(0)
    model = AutoencoderProjection(
        **{**SMALL, "widths": (8, 12, 16), "sdc_width": 8}, loss_weighting="pixel", corruption_p=1.0, seed=0
    )
    rows = torch.arange(32.0).view(1, 1, -1, 1)
    images = (0.5 + 0.3 * torch.sin(rows / 3 + torch.arange(8.0).view(-1, 1, 1, 1))).expand(-1, 3, -1, 32).contiguous()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(80):
        corrupted, masks, target = model.corrupted(images)
        loss = model.loss(model.model(corrupted), target, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert np.mean(losses[-5:]) < 0.25 * np.mean(losses[:5])


@pytest.mark.parametrize(("updates", "warmup", "expected"), [(20, 500, 2), (20, 1, 1), (8, 500, 0), (10, 0, 0)])
def test_schedule(tmp_path, mvtec_root, updates, warmup, expected):
    recorder = Recorder()
    model = AutoencoderProjection(**SMALL, max_updates=updates, lr=1e-3, final_lr=1e-5, warmup_updates=warmup)
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    rising = 1e-3 * (np.arange(expected) + 1) / (expected + 1)
    progress = np.arange(updates - expected) / (updates - expected)
    falling = 1e-5 + (1e-3 - 1e-5) * 0.5 * (1 + np.cos(np.pi * progress))
    np.testing.assert_allclose(recorder.rates, np.concatenate([rising, falling]), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "limits", "largest"),
    [
        ({"gradient_clip": 1e-3}, {}, 1e-3),
        ({"gradient_clip": 1e-3}, {"gradient_clip_val": 1e-4}, 1e-4),
        ({"gradient_clip": 1e-3}, {"gradient_clip_val": 0}, None),
        ({"gradient_clip": 0}, {}, None),
    ],
)
def test_gradients_are_clipped_as_the_trainer_says_else_as_the_model_does(
    tmp_path, mvtec_root, arguments, limits, largest
):
    recorder = Recorder()
    model = AutoencoderProjection(**SMALL, **arguments, max_updates=3, seed=0)
    make_engine(tmp_path, recorder, limit_val_batches=0, **limits).fit(model, datamodule=data(mvtec_root))
    norms = recorder.norms
    assert len(norms) >= 2
    if largest is None:
        assert min(norms) > 2e-3
    else:
        assert norms == pytest.approx([largest] * len(norms), rel=1e-2)


def test_targets_are_clean_and_inputs_corrupted_inside_the_masks():
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = AutoencoderProjection(**SMALL, corruption_p=1.0, flips=("horizontal",), seed=0)
    corrupted, masks, target = model.corrupted(images)
    flipped = (target == images.flip(-1)).flatten(1).all(dim=1)
    unchanged = (target == images).flatten(1).all(dim=1)
    assert (flipped ^ unchanged).all()
    assert torch.equal(torch.where(masks, target, corrupted), target)
    assert ((corrupted != target) & masks).any(dim=1).flatten(1).any(dim=1).all()
    clean = AutoencoderProjection(**SMALL, corruption_p=0.0).corrupted(images)
    assert torch.equal(clean[0], images)
    assert not clean[1].any()


def test_identity_noise_is_part_of_the_target():
    images = 0.5 * torch.ones(6, 3, 32, 32)
    model = AutoencoderProjection(**SMALL, corruption_p=1.0, identity_noise_sigma=0.05, seed=0)
    corrupted, masks, target = model.corrupted(images)
    assert torch.equal(torch.where(masks, target, corrupted), target)
    assert float((target - images).std()) == pytest.approx(0.05, rel=0.05)


def test_seeds_give_the_same_weights_twice(tmp_path, mvtec_root):
    states = []
    for run, seed in enumerate((0, 0, 1)):
        model = AutoencoderProjection(**SMALL, max_updates=3, seed=seed)
        make_engine(tmp_path / str(run)).fit(model, datamodule=data(mvtec_root))
        states.append(model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items() if "processor" not in name)
    assert not torch.equal(*(state["model.autoencoder.output.weight"] for state in states[1:]))


def test_mixed_precision_scores_in_full(tmp_path, mvtec_root):
    recorder = Recorder()
    model = AutoencoderProjection(**SMALL, max_updates=2, map_statistics="mean")
    engine = make_engine(tmp_path, recorder, precision="bf16-mixed")
    engine.fit(model, datamodule=data(mvtec_root))
    (prediction, *_) = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert prediction.pred_score.dtype == prediction.anomaly_map.dtype == torch.float32
    assert model.model.statistics.mean.dtype == torch.float32
    assert np.isfinite(recorder.losses).all()


def test_fast_dev_run(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, fast_dev_run=True)
    engine.fit(AutoencoderProjection(**SMALL, map_statistics="mean"), datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 1


@pytest.mark.gpu
def test_training_on_a_gpu(tmp_path, mvtec_root, monkeypatch):
    from anomalib_ssl.training import held_out

    monkeypatch.setattr(held_out, "LEAST_IMAGES", 6)
    arguments = {**SMALL, "max_updates": 4, "map_statistics": "mean", "error_normalization": "input", "seed": 0}
    engine = Engine(default_root_dir=tmp_path, accelerator="gpu", devices=1, check_val_every_n_epoch=2)
    model = AutoencoderProjection(**arguments)
    engine.fit(model, datamodule=data(mvtec_root))
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    loaded = AutoencoderProjection.load_from_checkpoint(engine.best_model_path, map_location="cpu").eval()
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(images).pred_score, model.eval().cuda()(images.cuda()).pred_score.cpu(), rtol=1e-3, atol=1e-3
        )
    resumed = Engine(default_root_dir=tmp_path / "resumed", accelerator="gpu", devices=1)
    again = AutoencoderProjection(**arguments | {"max_updates": 6})
    resumed.fit(again, datamodule=data(mvtec_root), ckpt_path=engine.best_model_path)
    assert resumed.trainer.global_step == 6


def test_scoring_before_fitting_is_an_error(tmp_path, mvtec_root):
    model = AutoencoderProjection(**SMALL, error_normalization="input")
    with pytest.raises(NotFittedError, match="train the model or load a trained checkpoint"):
        make_engine(tmp_path).test(model=model, datamodule=data(mvtec_root))


def test_get_model_by_name_and_from_a_dictionary(tmp_path, mvtec_root):
    assert type(get_model("autoencoder_projection", **SMALL)) is AutoencoderProjection
    init_args = {**SMALL, "widths": [3, 4, 5], "image_size": [32, 48], "fills": ["flat", "noise"], "max_updates": 1}
    model = get_model({"class_path": "AutoencoderProjection", "init_args": init_args})
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = AutoencoderProjection.load_from_checkpoint(engine.best_model_path)
    assert loaded.input_size == (32, 48)
    assert loaded.corruption.fill_weights == {"flat": 0.5, "noise": 0.5}


def test_command_line(tmp_path, mvtec_root):
    anomalib = Path(sys.executable).with_name("anomalib")
    model = ["--model", "AutoencoderProjection", "--model.image_size", "64", "--model.widths", "[4,6,8]"]
    options = ["--model.sdc_width", "4", "--model.max_updates", "3", "--model.flips", "[horizontal]"]
    fills = ["--model.fills", "{flat: 1.0, deform: 2.0}", "--model.map_statistics", "mean"]
    folder = [
        "--data",
        "MVTecAD",
        "--data.root",
        str(mvtec_root),
        "--data.category",
        "plate",
        "--data.num_workers",
        "0",
    ]
    trainer = ["--trainer.accelerator", "cpu", "--default_root_dir", str(tmp_path)]
    command = [str(anomalib), "train", *model, *options, *fills, *folder, *trainer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "image_AUROC" in done.stdout
    (checkpoint,) = {path.resolve() for path in tmp_path.rglob("model.ckpt")}
    assert AutoencoderProjection.load_from_checkpoint(checkpoint).model.statistics.is_fitted


@pytest.mark.parametrize("error_range", [0.25, 1.0])
def test_pictures_show_reconstruction_and_error(error_range):
    image = torch.full((1, 3, 32, 32), 0.2)
    reconstruction = image.clone()
    reconstruction[..., 16:] += 0.25
    batch = ImageBatch(image=image, anomaly_map=torch.rand(1, 32, 32))
    visualizer = ReconstructionVisualizer(error_range, fields=["image"], overlay_fields=[("image", ["anomaly_map"])])
    visualizer.text_config["enable"] = False
    picture = visualizer.draw(next(iter(batch)), reconstruction[0])
    assert picture.size == (4 * 256, 256)
    pixels = np.asarray(picture)
    assert abs(pixels[:, 520:620].mean() / 255 - 0.2) < 0.01
    assert abs(pixels[:, 660:760].mean() / 255 - 0.45) < 0.01
    # Blue where there is no error; red at the upper end of the range, else something in between.
    assert pixels[100, 800, 2] > pixels[100, 800, 0]
    upper = pixels[100, 1000]
    assert (upper[0] > upper[2]) == (error_range == 0.25)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": 100}, "image_size must have sides that are multiples of 8"),
        ({"widths": (4, 8)}, "widths"),
        ({"skip": "add"}, "skip"),
        ({"max_updates": 0}, "max_updates"),
        ({"lr": 0.0}, "lr"),
        ({"final_lr": 1.0}, "final_lr"),
        ({"warmup_updates": -1}, "warmup_updates"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"gradient_clip": -1.0}, "gradient_clip"),
        ({"loss_weighting": "area"}, "loss_weighting"),
        ({"clean_weight": -1.0}, "clean_weight"),
        ({"corruption_p": 1.1}, "corruption_p"),
        ({"fills": ["plaid"]}, "fills"),
        ({"flips": ["diagonal"]}, "flips"),
        ({"identity_noise_sigma": -0.1}, "identity_noise_sigma"),
        ({"memory_limits": (1.0,)}, "memory_limits"),
        ({"updates_per_epoch": 0}, "updates_per_epoch"),
        ({"box_size": 2}, "box_size"),
        ({"map_statistics": "yes"}, "map_statistics"),
        ({"pre_processor": PreProcessor(Compose([Resize((32, 32)), Normalize([0.5] * 3, [0.5] * 3)]))}, "Normalize"),
        ({"pre_processor": PreProcessor(Compose([Resize((30, 32))]))}, "image_size"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        AutoencoderProjection(**{**SMALL, **arguments})


def test_bad_data_is_refused_before_training(tmp_path, mvtec_root):
    model = AutoencoderProjection(**SMALL | {"image_size": (32, 48)}, quarter_turns=True, max_updates=1)
    with pytest.raises(ValueError, match="quarter_turns needs square images"):
        make_engine(tmp_path).fit(model, datamodule=data(mvtec_root))
    with pytest.raises(FileNotFoundError, match="textures"):
        AutoencoderProjection(**SMALL, textures=tmp_path / "nowhere")
