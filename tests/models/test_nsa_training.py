# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""NSA trained by anomalib's engine: what is derived from images and what is given, loss, schedule, bad input."""

import dataclasses
import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import ImageBatch, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_ssl import NSA
from anomalib_ssl.augmentations import BlendedPatch, Symmetries
from anomalib_ssl.models.nsa import Traits, image_traits
from anomalib_ssl.scoring import NotFittedError

SMALL = {"backbone": "test_resnet", "image_size": 64, "visualizer": False, "seed": 0}
PLAIN = Traits(background=None, threshold=0.1, texture=False, aligned=True, steepness=1 / 6, midpoint=15.0)
CONFIG = Path(__file__).parents[2] / "configs/model/nsa.yaml"


def data(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=3, eval_batch_size=4, num_workers=0, **kwargs)


def fitted(path, root, *callbacks, **arguments):
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    model = NSA(**{**SMALL, "max_updates": 1, **arguments})
    engine.fit(model, datamodule=data(root))
    return model, engine


def test_traits_are_those_of_the_clean_training_images(tmp_path, mvtec_root, caplog):
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        model, engine = fitted(tmp_path, mvtec_root)
    datamodule = data(mvtec_root)
    datamodule.setup()
    clean = model.pre_processor.transform(torch.stack([item.image for item in datamodule.train_data]))
    assert model.traits == image_traits([clean])
    assert f"look like {model.traits}, so that NSA learns {model.task}" in caplog.text
    loaded = NSA.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    assert loaded.traits == model.traits
    assert loaded.task == model.task


def test_arguments_override_traits_and_travel_with_a_checkpoint(tmp_path, mvtec_root):
    arguments = {
        "texture": False,
        "aligned": True,
        "label": [0.5, 4],
        "patch": {"background": 0.8, "threshold": 0.3, "height": [0.1, 0.3]},
        "symmetries": {"flips": ["horizontal"]},
    }
    model, engine = fitted(tmp_path, mvtec_root, **arguments)
    derived, _ = fitted(tmp_path, mvtec_root)
    assert (model.traits.aligned, derived.traits.aligned) == (True, False)
    assert model.traits.background == derived.traits.background
    assert derived.task.patch.gradients == "mixed"
    loaded = NSA.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    for task in (model.task, loaded.task):
        assert task.patch == BlendedPatch(background=0.8, threshold=0.3, height=(0.1, 0.3), shrink=0.5)
        assert task.symmetries == Symmetries(flips=("horizontal",))
        assert task.label == (0.5, 4.0)


def test_another_run_looks_at_its_own_images(tmp_path, mvtec_root):
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False)
    model = NSA(**SMALL, max_updates=1)
    model.traits = PLAIN
    engine.fit(model, datamodule=data(mvtec_root))
    expected = model.traits
    assert expected != PLAIN
    # No update is left: all stays.
    engine.fit(model, datamodule=data(mvtec_root))
    assert model.traits == expected


def test_nothing_to_learn_before_training():
    with pytest.raises(NotFittedError, match="train the model"):
        _ = NSA(**SMALL).task


def steps(model, images, count):
    """Losses of some updates outside of a Trainer."""
    model.log, model.traits = lambda *args, **kwargs: None, PLAIN
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(count):
        loss = model.training_step(ImageBatch(image=images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def test_it_learns_to_find_patches():
    torch.manual_seed(0)
    rows = torch.arange(64.0).view(1, 1, -1, 1)
    phase = torch.arange(8.0).view(-1, 1, 1, 1)
    images = (0.5 + 0.4 * torch.sin(rows / 3 + phase)).expand(-1, 3, -1, 64).contiguous()
    model = NSA(**SMALL, patch={"height": [0.3, 0.6], "width": [0.3, 0.6], "blend": "hard"})
    losses = list(steps(model, images, 40))
    assert np.mean(losses[-5:]) < 0.85 * np.mean(losses[:5])
    with torch.no_grad():
        blended, _, labels = model.task(images)
        found = model.model(blended).sigmoid()
    assert found[labels > 0.5].mean() > found[labels < 0.5].mean() + 0.15


def test_the_loss_is_the_cross_entropy_with_the_soft_label():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 64, 64)
    model, seen = NSA(**SMALL, label=(0.1, 60.0)), []
    model.model.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0], output)))
    torch.manual_seed(1)
    (loss,) = steps(model, images, 1)
    torch.manual_seed(1)
    blended, _, labels = model.task(images)
    ((given, logits),) = seen
    assert torch.equal(given, blended)
    assert ((labels > 0.05) & (labels < 0.95)).any()
    share = logits.double().sigmoid()
    expected = -(labels * share.log() + (1 - labels) * (1 - share).log()).mean()
    assert loss == pytest.approx(float(expected), rel=1e-4)


class Rates(Callback):
    """Note the learning rate of every update."""

    def __init__(self):
        self.rates = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.rates.append(optimizer.param_groups[0]["lr"])


def test_schedule(tmp_path, mvtec_root):
    rates = Rates()
    fitted(tmp_path, mvtec_root, rates, max_updates=6, lr=2e-3)
    expected = 1e-6 + (2e-3 - 1e-6) * 0.5 * (1 + np.cos(np.pi * np.arange(6) / 6))
    np.testing.assert_allclose(rates.rates, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"image_size": 100}, ValueError, "image_size must have sides that are multiples of 32"),
        ({"texture": "yes"}, TypeError, "texture must be true or false"),
        ({"aligned": 1}, TypeError, "aligned must be true or false"),
        ({"label": 7}, TypeError, "label must be a pair"),
        ({"label": [1, 2, 3]}, ValueError, "label must be a pair"),
        ({"label": [0, 7]}, ValueError, "label's steepness"),
        ({"label": [1, 256]}, ValueError, "label's midpoint"),
        ({"patch": {"size": 3}}, ValueError, "patch must hold .* got 'size'"),
        ({"patch": {"background": 200}}, ValueError, "patch: background"),
        ({"patch": 3}, TypeError, "patch must be"),
        ({"symmetries": {"flips": ["diagonal"]}}, ValueError, "symmetries: flips"),
        ({"score": "change_sum"}, ValueError, "score"),
        ({"lr": 0.0}, ValueError, "lr"),
    ],
)
def test_bad_arguments_are_named(arguments, error, named):
    with pytest.raises(error, match=named):
        NSA(**{**SMALL, **arguments})


def test_bad_data_is_refused_before_training(tmp_path, mvtec_root):
    with pytest.raises(ValueError, match="quarter_turns needs square images"):
        fitted(tmp_path, mvtec_root, image_size=(64, 96), symmetries={"quarter_turns": True})


def published():
    """The table of settings by category in the configuration's comment."""
    rows = re.findall(r"^#   (\w+): (\{.*\})$", CONFIG.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: yaml.safe_load(settings) for name, settings in rows}


def test_published_settings_are_arguments():
    table = published()
    assert len(table) == 15
    for settings in table.values():
        model = NSA(**{**SMALL, **settings})
        model.traits = dataclasses.replace(PLAIN, height=0.2, width=0.3)
        # Nothing of the authors' is left to the training images, the sides of patches neither.
        sides = model.task.patch.height, model.task.patch.width
        model.traits = PLAIN
        assert sides == (model.task.patch.height, model.task.patch.width)
        steepness, midpoint = model.task.label
        assert 1 < steepness * midpoint < 3.1
        assert (model.task.patch.gradients == "mixed") == settings["texture"]
    assert sum(settings["texture"] for settings in table.values()) == 5


def test_arguments_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--model.patch", "{background: null, height: [0.1, 0.8]}", "--model.texture", "false"]
    flags += ["--model.label", "[0.0833, 24]", "--model.symmetries.rotation", "10"]
    model = AnomalibCLI(args=["train", "--config", str(CONFIG), "--data", "MVTecAD", *flags], run=False).model
    model.traits = PLAIN
    assert model.task.patch == BlendedPatch(height=(0.1, 0.8), threshold=0.1, shrink=0.5)
    assert model.task.symmetries == Symmetries(rotation=10.0)
    assert model.task.label == (0.0833, 24.0)
