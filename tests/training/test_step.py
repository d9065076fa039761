# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The training step that all models share."""

from types import SimpleNamespace

import pytest
import torch
from anomalib.models import AnomalibModule
from torch import nn

from anomalib_ssl.training.mixin import SelfSupervisedMixin


class Bare(SelfSupervisedMixin, AnomalibModule):
    """Has nothing of its own."""

    def __init__(self, **training):
        super().__init__(**training)
        self.model = nn.Linear(3, 1)


class Halving(Bare):
    """Learns what the mean colour of darker images is."""

    def augment(self, images):
        self.seen = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), images.dtype
        return images / 2

    def losses(self, augmented):
        mean = augmented.mean()
        return {"loss": (self.model(augmented.mean(dim=(2, 3))) - mean).square().mean(), "mean": mean}


@pytest.fixture
def logged(monkeypatch):
    """What models log, by name: value, whether in the progress bar, and number of images."""
    values = {}

    def log(self, name, value, prog_bar, batch_size):
        values[name] = (float(value.detach()), prog_bar, batch_size)

    monkeypatch.setattr(Bare, "log", log)
    return values


def test_images_are_augmented_then_compared_then_logged(logged):
    model = Halving(image_size=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model.training_step(SimpleNamespace(image=torch.full((5, 3, 8, 8), 0.5)), 0)
    assert model.seen == (False, False, torch.float32)
    assert loss.requires_grad
    assert logged["train_mean"] == (0.25, False, 5)
    assert logged["train_loss"] == (pytest.approx(float(loss.detach())), True, 5)
    assert set(logged) == {"train_loss", "train_mean"}


def test_a_model_without_losses_says_so(logged):
    batch = SimpleNamespace(image=torch.zeros(2, 3, 8, 8))
    with pytest.raises(NotImplementedError, match="Bare has neither losses nor a training_step"):
        Bare(image_size=8).training_step(batch)
    assert not logged


def test_augmentations_are_tried_without_a_trace_in_the_random_numbers(monkeypatch):
    class Noisy(Halving):
        def augment(self, images):
            assert images.shape == (2, 3, 8, 8)
            return images + torch.rand_like(images)

    for module in ("check_precision", "check_sync_batchnorm"):
        monkeypatch.setattr(f"anomalib_ssl.training.mixin.{module}", lambda *args: None)
    monkeypatch.setattr("anomalib_ssl.training.mixin.num_training_images", lambda trainer: 2)
    model = Noisy(image_size=8)
    model._trainer = SimpleNamespace(callbacks=[])
    before = torch.get_rng_state()
    model.setup("fit")
    assert torch.equal(torch.get_rng_state(), before)
