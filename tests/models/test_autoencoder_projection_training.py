# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""AutoencoderProjection trained by anomalib's engine: steps, schedule, clipping, pictures, augmentations, bad input."""

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from PIL import Image
from torchvision.transforms.v2 import Compose, Resize

from anomalib_ssl import AutoencoderProjection
from anomalib_ssl.augmentations import LocalCorruption, Symmetries
from anomalib_ssl.models.autoencoder_projection import lightning_model, visualizer
from anomalib_ssl.models.autoencoder_projection.visualizer import ReconstructionVisualizer

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


def test_pictures_are_written_of_reconstructions(tmp_path, mvtec_root):
    model = AutoencoderProjection(**SMALL | {"visualizer": True}, max_updates=2, seed=0)
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.train(model=model, datamodule=data(mvtec_root))
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert predictions[0].reconstruction.shape == (1, 3, 32, 32)
    # Six pictures a test image in a row: image, mask, map, prediction, reconstruction, error.
    pictures = [Image.open(path) for path in tmp_path.rglob("images/*/*.png")]
    assert len(pictures) >= 8
    assert {picture.size for picture in pictures} >= {(6 * 256, 256)}


def test_augmentations_travel_with_a_checkpoint(tmp_path, mvtec_root):
    corruption = {"fills": {"flat": 1, "noise": 2}, "area": [0.01, 0.1]}
    model = AutoencoderProjection(
        **SMALL, max_updates=1, corruption=corruption, symmetries=Symmetries(("vertical",)), score="scaled_top"
    )
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = AutoencoderProjection.load_from_checkpoint(engine.best_model_path)
    assert loaded.corruption == model.corruption == LocalCorruption(fills={"flat": 1, "noise": 2}, area=(0.01, 0.1))
    assert loaded.symmetries == model.symmetries == Symmetries(flips=("vertical",))
    assert loaded.max_updates == 1
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images).pred_score, model.eval()(images).pred_score)


def steps(model, images, count):
    """Losses of some updates outside of a Trainer."""
    model.log = lambda *args, **kwargs: None
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(count):
        loss = model.training_step(ImageBatch(image=images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def test_it_learns_to_restore():
    torch.manual_seed(0)
    arguments = {**SMALL, "widths": (8, 12, 16), "sdc_width": 8, "seed": 0}
    rows = torch.arange(32.0).view(1, 1, -1, 1)
    images = (0.5 + 0.3 * torch.sin(rows / 3 + torch.arange(8.0).view(-1, 1, 1, 1))).expand(-1, 3, -1, 32).contiguous()
    losses = list(steps(AutoencoderProjection(**arguments, corruption=LocalCorruption(p=1.0)), images, 80))
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize(("updates", "longest", "warmup"), [(20, 500, 2), (20, 1, 1), (8, 500, 0)])
def test_schedule(tmp_path, mvtec_root, monkeypatch, updates, longest, warmup):
    monkeypatch.setattr(lightning_model, "WARMUP_UPDATES", longest)
    recorder = Recorder()
    model = AutoencoderProjection(**SMALL, max_updates=updates, lr=1e-3)
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    rising = 1e-3 * (np.arange(warmup) + 1) / (warmup + 1)
    progress = np.arange(updates - warmup) / (updates - warmup)
    falling = 1e-6 + (1e-3 - 1e-6) * 0.5 * (1 + np.cos(np.pi * progress))
    np.testing.assert_allclose(recorder.rates, np.concatenate([rising, falling]), rtol=1e-6)


@pytest.mark.parametrize(
    ("limits", "largest"),
    [({}, 1e-3), ({"gradient_clip_val": 1e-4}, 1e-4), ({"gradient_clip_val": 0}, None)],
)
def test_gradients_are_clipped_as_the_trainer_says_else_as_the_model_does(
    tmp_path, mvtec_root, monkeypatch, limits, largest
):
    monkeypatch.setattr(lightning_model, "GRADIENT_CLIP", 1e-3)
    recorder = Recorder()
    model = AutoencoderProjection(**SMALL, max_updates=3, seed=0)
    make_engine(tmp_path, recorder, limit_val_batches=0, **limits).fit(model, datamodule=data(mvtec_root))
    norms = recorder.norms
    assert len(norms) >= 2
    if largest is None:
        assert min(norms) > 2e-3
    else:
        assert norms == pytest.approx([largest] * len(norms), rel=1e-2)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_targets_are_clean_and_inputs_corrupted_inside_the_masks(p):
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    symmetries = Symmetries(flips=("horizontal",))
    model = AutoencoderProjection(**SMALL, corruption=LocalCorruption(p=p), symmetries=symmetries)
    seen = {}
    model.model.register_forward_pre_hook(lambda module, inputs: seen.update(corrupted=inputs[0]))
    model.loss.register_forward_pre_hook(lambda module, inputs: seen.update(target=inputs[1], masks=inputs[2]))
    torch.manual_seed(0)
    (_,) = steps(model, images, 1)
    corrupted, target, masks = (seen[name] for name in ("corrupted", "target", "masks"))
    flipped = (target == images.flip(-1)).flatten(1).all(dim=1)
    unchanged = (target == images).flatten(1).all(dim=1)
    assert (flipped ^ unchanged).all()
    assert flipped.any()
    assert unchanged.any()
    assert torch.equal(torch.where(masks, target, corrupted), target)
    assert (((corrupted != target) & masks).any(dim=1).flatten(1).any(dim=1) == p).all()
    assert masks.flatten(1).any(dim=1).float().mean() == p


@pytest.mark.parametrize("error_range", [0.25, 1.0])
def test_pictures_show_reconstruction_and_error(error_range, monkeypatch):
    monkeypatch.setattr(visualizer, "ERROR_RANGE", error_range)
    image = torch.full((1, 3, 32, 32), 0.2)
    reconstruction = image.clone()
    reconstruction[..., 16:] += 0.25
    batch = ImageBatch(image=image, anomaly_map=torch.rand(1, 32, 32))
    drawing = ReconstructionVisualizer(fields=["image"], overlay_fields=[("image", ["anomaly_map"])])
    drawing.text_config["enable"] = False
    picture = drawing.draw(next(iter(batch)), reconstruction[0])
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
        ({"pre_processor": PreProcessor(Compose([Resize((30, 32))]))}, "image_size"),
        ({"widths": (4, 8)}, "widths"),
        ({"lr": 0.0}, "lr"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"held_out_share": 0.6}, "held_out_share"),
        ({"masked_weight": 1.1}, "masked_weight"),
        ({"corruption": {"p": 1.1}}, "corruption: p"),
        ({"corruption": {"colour": 1}}, "corruption must hold .* got 'colour'"),
        ({"symmetries": {"flips": ["diagonal"]}}, "symmetries: flips"),
        ({"heat_map": "yes"}, "heat_map"),
        ({"score": "sum"}, "score"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        AutoencoderProjection(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"widths": (3, 4, 5.0)}, "widths"),
        ({"sdc_layers": 1.5}, "sdc_layers"),
        ({"lr": "fast"}, "lr"),
        ({"corruption": 0.5}, "corruption"),
    ],
)
def test_arguments_of_other_types_are_named(arguments, named):
    with pytest.raises(TypeError, match=named):
        AutoencoderProjection(**{**SMALL, **arguments})


def test_bad_data_is_refused_before_training(tmp_path, mvtec_root):
    symmetries = Symmetries(quarter_turns=True)
    model = AutoencoderProjection(**SMALL | {"image_size": (32, 48)}, symmetries=symmetries, max_updates=1)
    with pytest.raises(ValueError, match="quarter_turns needs square images"):
        make_engine(tmp_path).fit(model, datamodule=data(mvtec_root))
    with pytest.raises(FileNotFoundError, match="corruption: textures"):
        AutoencoderProjection(**SMALL, corruption={"textures": tmp_path / "nowhere"})
