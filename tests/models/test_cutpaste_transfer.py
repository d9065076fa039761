# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Fine-tuning: a stage for the head alone, frozen batch norm, two learning rates."""

import copy
import math

import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback
from torch import nn

from anomalib_ssl import CutPaste
from anomalib_ssl.checkpoints import load_checkpoint
from anomalib_ssl.models.cutpaste import CutPasteModel
from anomalib_ssl.training.schedule import fine_tuning_schedule

SMALL = {"backbone": "test_efficientnet", "image_size": 32, "visualizer": False}


class Recorder(Callback):
    """Note the learning rate before, and the weights after, every update."""

    def __init__(self, stop_at=None):
        self.rates, self.states, self.stop_at = [], [], stop_at

    def on_train_start(self, trainer, pl_module):
        self.states.append(copy.deepcopy(pl_module.model.state_dict()))

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.states.append(copy.deepcopy(pl_module.model.state_dict()))
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True

    def changed(self, part):
        """Whether tensors of a part changed, update by update."""
        return [
            any(not torch.equal(before[name], after[name]) for name in before if part in name)
            for before, after in zip(self.states, self.states[1:], strict=False)
        ]


def fit(path, root, model, recorder, ckpt_path=None) -> Engine:
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
    )
    data = MVTecAD(root=root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0)
    engine.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return engine


def two_cosines(total, head, first, second):
    """Learning rates, written down by hand."""
    rates = [first * (1 + math.cos(math.pi * step / head)) / 2 for step in range(head)]
    rest = total - head
    return rates + [second * (1 + math.cos(math.pi * step / rest)) / 2 for step in range(rest)]


def batch_norms(model):
    return [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize(("ensemble", "pre_trained"), [(1, False), (1, True), (2, False)])
def test_the_head_is_trained_alone_at_first(tmp_path, mvtec_root, ensemble, pre_trained):
    recorder = Recorder()
    model = CutPaste(max_updates=5, freeze_updates=3, seed=0, ensemble=ensemble, pre_trained=pre_trained, **SMALL)
    fit(tmp_path, mvtec_root, model, recorder)
    assert recorder.changed("head") == [True] * 5
    assert recorder.changed("conv_stem.weight") == [False] * 3 + [True] * 2
    # Weights and statistics of the whole backbone, batch norm's among them.
    assert recorder.changed("backbone") == [False] * 3 + [True] * 2
    batch_norm = [False] * 5 if pre_trained else [False] * 3 + [True] * 2
    assert recorder.changed("bn1.running_mean") == batch_norm
    assert recorder.changed("bn1.weight") == batch_norm
    assert recorder.changed("bn2.bias") == batch_norm


def test_all_is_trained_from_the_start_without_it(tmp_path, mvtec_root):
    recorder = Recorder()
    fit(tmp_path, mvtec_root, CutPaste(max_updates=2, seed=0, **SMALL), recorder)
    for part in ("head", "conv_stem.weight", "bn1.running_mean", "bn1.weight"):
        assert recorder.changed(part) == [True, True]


def test_frozen_batch_norm_keeps_statistics_and_affine_parameters():
    torch.manual_seed(0)
    model = CutPasteModel("test_efficientnet", image_size=(32, 32), freeze_batch_norm=True)
    for norm in batch_norms(model):
        nn.init.uniform_(norm.running_mean, -1, 1)
        nn.init.uniform_(norm.bias, -1, 1)
    before = copy.deepcopy(model.state_dict())
    # The strongest of weight decays would show.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.5)
    for switch in (lambda: None, model.eval, model.train, model.train):
        switch()
        assert len(batch_norms(model)) > 5
        assert not any(norm.training for norm in batch_norms(model))
        assert not any(parameter.requires_grad for norm in batch_norms(model) for parameter in norm.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(6, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    after = model.state_dict()
    frozen = {
        f"backbone.{name}.{tensor}"
        for name, module in model.backbone.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for tensor in module.state_dict()
    }
    for name, value in before.items():
        if name in frozen:
            assert torch.equal(value, after[name]), name
    # All other weights are trained, the head's batch norm too.
    trained = {name for name, _ in model.named_parameters()} - frozen
    assert all(not torch.equal(before[name], after[name]) for name in trained)
    assert not torch.equal(before["head.1.running_mean"], after["head.1.running_mean"])
    assert model.head[1].training


def test_batch_norm_is_trained_unless_frozen():
    model = CutPasteModel("test_efficientnet", image_size=(32, 32)).train()
    assert all(norm.training for norm in batch_norms(model))
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("freeze_batch_norm", [False, True])
def test_a_frozen_backbone_thaws_again(freeze_batch_norm):
    model = CutPasteModel("test_efficientnet", image_size=(32, 32), freeze_batch_norm=freeze_batch_norm).train()
    model.backbone_frozen = True
    model.train()
    assert model.training
    assert not any(norm.training for norm in batch_norms(model))
    model(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(parameter.grad is not None for parameter in model.head.parameters())
    model.backbone_frozen = False
    assert all(norm.training != freeze_batch_norm for norm in batch_norms(model))
    model(torch.rand(4, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.backbone.parameters() if parameter.requires_grad)
    # It does not switch evaluation off.
    model.eval()
    model.backbone_frozen = True
    assert not any(module.training for module in model.modules())


@pytest.mark.usefixtures("no_download")
@pytest.mark.parametrize("pre_trained", [False, True])
def test_batch_norm_of_pretrained_backbones_is_frozen(pre_trained):
    model = CutPaste(pre_trained=pre_trained, **SMALL).model.train()
    assert all(norm.training != pre_trained for norm in batch_norms(model))


def test_each_stage_has_its_cosine(tmp_path, mvtec_root):
    recorder = Recorder()
    model = CutPaste(max_updates=7, freeze_updates=3, lr=0.03, finetune_lr=1e-4, **SMALL)
    fit(tmp_path, mvtec_root, model, recorder)
    assert recorder.rates == pytest.approx(two_cosines(7, 3, 0.03, 1e-4))


def test_the_second_stage_defaults_to_the_same_rate(tmp_path, mvtec_root):
    recorder = Recorder()
    fit(tmp_path, mvtec_root, CutPaste(max_updates=5, freeze_updates=2, lr=0.02, **SMALL), recorder)
    assert recorder.rates == pytest.approx(two_cosines(5, 2, 0.02, 0.02))


@pytest.mark.parametrize(
    ("total", "head", "expected"),
    [
        (4, 0, [0.5 * (1 + math.cos(math.pi * step / 4)) for step in range(4)]),
        # A budget that ends within the first stage is all its own.
        (3, 5, [2.0 * 0.5 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]),
        (3, 3, [2.0 * 0.5 * (1 + math.cos(math.pi * step / 3)) for step in range(3)]),
    ],
)
def test_schedule_at_its_limits(total, head, expected):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = fine_tuning_schedule(optimizer, lambda: total, head, (2.0, 1.0))
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected)
    assert math.isfinite(optimizer.param_groups[0]["lr"])


@pytest.mark.parametrize("stop_at", [2, 5])
def test_resuming_goes_on_in_its_stage(tmp_path, mvtec_root, stop_at):
    arguments = {"max_updates": 8, "freeze_updates": 4, "finetune_lr": 0.01, **SMALL}
    first, second = Recorder(stop_at), Recorder()
    engine = fit(tmp_path / "first", mvtec_root, CutPaste(seed=0, **arguments), first)
    checkpoint = engine.best_model_path
    fit(tmp_path / "second", mvtec_root, CutPaste(**arguments), second, checkpoint)
    assert first.rates + second.rates == pytest.approx(two_cosines(8, 4, 0.001, 0.01))
    frozen = [True] * 4 + [False] * 4
    assert first.changed("backbone") + second.changed("backbone") == [not each for each in frozen]


def test_a_loaded_model_normalises_images_as_its_weights_ask_for(tmp_path, mvtec_root, no_download):
    """Though it is built without fetching them."""
    model = CutPaste(backbone="test_resnet", pre_trained=True, image_size=32, max_updates=1, visualizer=False)
    engine = Engine(default_root_dir=tmp_path, accelerator="cpu", enable_progress_bar=False)
    engine.fit(model, datamodule=MVTecAD(root=mvtec_root, category="plate", train_batch_size=4, num_workers=0))
    loaded = load_checkpoint(engine.trainer.checkpoint_callback.best_model_path)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected, found = (one.model.eval().backbone.normalized(images) for one in (model, loaded))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, CutPasteModel("test_resnet").eval().backbone.normalized(images))
