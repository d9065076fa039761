# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""DynamicLocalAugmentation in training: what it sees, learns, logs and measures, and what it refuses."""

import numpy as np
import pytest
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from anomalib_ssl import DynamicLocalAugmentation
from anomalib_ssl.augmentations import LocalAugmentation
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews
from anomalib_ssl.training.images import held_out
from anomalib_ssl.training.mixin import SelfSupervisedMixin

SMALL = {"backbone": "test_resnet", "image_size": 32, "mc_samples": 2, "visualizer": False}


def data(root, batch=3):
    return MVTecAD(root=root, category="plate", train_batch_size=batch, eval_batch_size=4, num_workers=0)


def make_engine(path, *callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=path, callbacks=list(callbacks), **quiet, **kwargs)


def rand_images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


class Recorder(Callback):
    """Note rates and logged values of every update, and what validations log."""

    def __init__(self):
        self.rates, self.logged, self.validated = [], [], []

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, *args):
        values = trainer.callback_metrics.items()
        self.logged.append({name: float(value) for name, value in values if name.startswith("train_")})

    def on_validation_end(self, trainer, *args):
        values = trainer.callback_metrics.items()
        self.validated.append({name: float(value) for name, value in values if not name.startswith("train_")})


def test_losses_rates_and_spread_are_logged(tmp_path, mvtec_root):
    recorder = Recorder()
    model = DynamicLocalAugmentation(**SMALL, max_updates=6, lr=0.5, seed=0, negative_weight=0.5)
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    progress = np.arange(6) / 6
    np.testing.assert_allclose(recorder.rates, 0.5 * 3 / 256 * 0.5 * (1 + np.cos(np.pi * progress)), rtol=1e-6)
    names = ("loss", "global_loss", "dense_loss", "negative_loss", "local_loss", "projection_spread")
    for values in recorder.logged:
        assert set(values) == {f"train_{name}" for name in names}
        parts = [values[f"train_{name}_loss"] for name in ("global", "dense", "negative", "local")]
        assert values["train_loss"] == pytest.approx(np.dot(parts, [1, 0.1, 0.5, 1]), abs=1e-5)
        assert 0.2 < values["train_projection_spread"] < 1.3


def test_branches_that_do_not_count_are_left_out(tmp_path, mvtec_root):
    recorder = Recorder()
    model = DynamicLocalAugmentation(**SMALL, max_updates=2, local_weight=0.0)
    views = model.augment(rand_images(2, 3, 32, 32))
    assert views.masks is None
    assert len(views.images) == 4
    assert not any("negative_head" in name for name in model.state_dict())
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    assert set(recorder.logged[-1]) == {
        "train_loss",
        "train_global_loss",
        "train_dense_loss",
        "train_projection_spread",
    }


IMAGES = {"negative_weight": 0.5, "local_weight": 0.0}
OTHERWISE = {"views": GlobalViews(crop=1.0), "local": LocalAugmentation(weighting="static")}


@pytest.mark.parametrize(
    ("arguments", "learned"), [({}, "local"), (IMAGES, "negative"), ({**IMAGES, **OTHERWISE}, "negative")]
)
def test_training_learns_to_tell_augmented_images(arguments, learned):
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 48}, **arguments, seed=0)
    rows = torch.arange(48.0).view(1, 1, -1, 1)
    images = (0.5 + 0.3 * torch.sin(rows / 3 + torch.arange(8.0).view(-1, 1, 1, 1))).expand(-1, 3, -1, 48).contiguous()
    optimizer = torch.optim.SGD(model.model.parameters(), lr=0.3, momentum=0.9)
    torch.manual_seed(0)
    values = []
    for _ in range(40):
        views = model.augment(images)
        terms = model.loss(model.model(views.images), views)
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()
        values.append(float(terms.parts[learned].detach()))
    # Fresh heads do not know which is which. Of eight seeds the worst came to -0.6 in the last updates.
    assert abs(np.mean(values[:3])) < 0.1
    assert np.mean(values[-5:]) < -0.2


def test_views_and_negatives_of_training():
    images = rand_images(6, 3, 64, 64)
    images[2] = 0
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 64}, local={"region": [64, 64]}, blended=0.0)
    torch.manual_seed(0)
    views = model.augment(images)
    first, second, negatives = views.images.chunk(3)
    assert not torch.equal(first, second)
    changed = (negatives != first).any(dim=1)
    assert views.masks.flatten(1).any(dim=1).tolist() == [True, True, False, True, True, True]
    assert not (changed & ~views.masks.squeeze(1)).any()
    # Sixteen pixels of an image of 64 are sixteen pixels of a crop of it.
    for mask in views.masks[[0, 1, 3, 4, 5], 0]:
        rows, cols = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
        assert 14 <= int(rows[-1] - rows[0]) + 1 <= 16
        assert 14 <= int(cols[-1] - cols[0]) + 1 <= 16
    # What is given in pixels as they are is not scaled either.
    model.local = LocalAugmentation((16, 16), reference_size=None)
    assert model.augment(images).images.shape == views.images.shape


def test_held_out_images_are_measured_after_statistics(tmp_path, mvtec_root, monkeypatch):
    monkeypatch.setattr(held_out, "LEAST_IMAGES", 6)
    recorder, seen = Recorder(), []
    model = DynamicLocalAugmentation(**SMALL, max_updates=6, held_out_share=0.2, seed=0)
    fit = model.fit_statistics

    def fit_statistics(images, held_out):
        seen.append([sum(map(len, batches)) for batches in (images, held_out)])
        fit(images, held_out)

    monkeypatch.setattr(model, "fit_statistics", fit_statistics)
    engine = make_engine(tmp_path, recorder, val_check_interval=3, check_val_every_n_epoch=None)
    engine.fit(model, datamodule=data(mvtec_root))
    assert seen == [[5, 1], [5, 1]]
    assert len(recorder.validated) == 2
    for values in recorder.validated:
        assert {"held_out_image_AUROC", "held_out_pixel_AUROC"} <= set(values)
        assert values["normal_distance_layer1"] > 0
        assert values["normal_uncertainty_layer3"] > 0
    # Measured by hand: what was logged, with the same defects.
    datamodule = data(mvtec_root)
    datamodule.setup()
    parts = [
        model.pre_processor.transform(torch.stack([datamodule.train_data[i].image for i in indices]))
        for indices in held_out.split_indices(6, 0.2)
    ]
    fit(*([images] for images in parts))
    for name, value in model.held_out_metrics.items():
        assert value == pytest.approx(recorder.validated[-1][f"held_out_{name}"], abs=1e-3)


def test_other_masks_for_a_trained_network(tmp_path, mvtec_root):
    engine = make_engine(tmp_path)
    engine.fit(DynamicLocalAugmentation(**SMALL, max_updates=2), datamodule=data(mvtec_root))
    images = rand_images(1, 3, 32, 32)
    fixed, literal = (
        DynamicLocalAugmentation.load_from_checkpoint(engine.best_model_path, mc_masks=masks).eval().model
        for masks in ("fixed", "random")
    )
    with torch.no_grad():
        for model, same in ((fixed, True), (literal, False)):
            (distance, uncertainty), again = model.error_maps(images), model.error_maps(images)
            assert torch.equal(distance, again[0])
            assert torch.equal(uncertainty, again[1]) == same


def test_random_masks_are_exported_where_neither_score_nor_map_needs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(SelfSupervisedMixin, "to_onnx", lambda _, path: path)
    for score, heat_map in (("density", "distance"), ("distance_mean", "places")):
        model = DynamicLocalAugmentation(**SMALL, mc_masks="random", score=score, heat_map=heat_map)
        with pytest.raises(ValueError, match="cannot be exported"):
            model.to_onnx(tmp_path)
    model = DynamicLocalAugmentation(**SMALL, mc_masks="random", score="density", heat_map="places")
    assert model.to_onnx(tmp_path) == tmp_path


def test_a_last_batch_of_one_image_trains(tmp_path, mvtec_root):
    # Five images of six in a batch of the stock loader leave one, which batch norm could not do with.
    engine = make_engine(tmp_path, limit_val_batches=0)
    model = DynamicLocalAugmentation(**SMALL, max_updates=4, in_memory=False)
    engine.fit(model, datamodule=data(mvtec_root, 5))
    assert engine.trainer.global_step == 4
    assert all(value.isfinite().all() for value in model.model.state_dict().values())


def test_no_update_at_all(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(**SMALL, seed=0)
    before = {name: value.clone() for name, value in model.model.named_parameters()}
    engine = make_engine(tmp_path, max_steps=0)
    engine.fit(model, datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 0
    assert all(torch.equal(value, before[name]) for name, value in model.model.named_parameters())


def test_augmentations_from_mappings():
    model = get_model(
        "dynamic_local_augmentation",
        **SMALL,
        views={"crop": 1.0},
        local={"region": [40, 60], "operations": ["rotation", "jitter"]},
    )
    assert model.views == GlobalViews(crop=1.0)
    assert model.local == LocalAugmentation((40, 60), operations=("rotation", "jitter"))
    assert dict(model.hparams["views"]) == {"crop": 1.0}
    given = DynamicLocalAugmentation(**SMALL, views=GlobalViews(shift=8))
    assert given.hparams["views"] == {"crop": 0.875, "shift": 8}


def test_a_pre_processor_that_crops():
    cropping = PreProcessor(Compose([Resize((256, 256)), CenterCrop(224)]))
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 256}, pre_processor=cropping, views={"crop": 1.0})
    assert model.size == (224, 224)
    assert model.augment(rand_images(2, 3, 224, 224)).images.shape == (6, 3, 224, 224)
    assert model.model.distance.shapes[0] == (32, 56, 56)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_negatives_gets_blended_patches(share):
    # Each image has one colour, which a permutation leaves alone: what changes comes of another image.
    images = torch.linspace(0.1, 0.9, 40).view(40, 1, 1, 1).expand(40, 3, 32, 32).contiguous()
    arguments = {"views": {"crop": 1.0}, "local": {"operations": ["permutation"]}, "blended": share}
    model = DynamicLocalAugmentation(**SMALL | arguments)
    torch.manual_seed(0)
    views = model.augment(images)
    first, _, negatives = views.images.chunk(3)
    touched = views.masks.flatten(1).any(dim=1).float().mean()
    assert touched == pytest.approx(share, abs=0.25)
    assert share in (touched, 0.5)
    assert torch.equal(torch.where(views.masks, first, negatives), first)


@pytest.mark.gpu
def test_gradients_on_a_gpu_are_the_same_each_time():
    torch.manual_seed(0)
    model = DynamicLocalAugmentation(**SMALL | {"image_size": 160}, mc_samples=0).cuda()
    views = model.augment(rand_images(4, 3, 160, 160).cuda())
    gradients = []
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(2):
            torch.manual_seed(0)
            model.zero_grad()
            model.loss(model.model(views.images), views).total.backward()
            gradients.append([value.grad.clone() for value in model.model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"lr": 0.0}, "lr"),
        ({"blended": 1.5}, "blended"),
        ({"negative_weight": -1.0}, "negative_weight"),
        ({"views": {"crop": 2}}, "views: crop"),
        ({"views": {"crops": 0.5}}, "views .*'crops'"),
        ({"local": {"region": (80, 50)}}, "local: region"),
        ({"held_out_share": 0.9}, "held_out_share"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        DynamicLocalAugmentation(**{**SMALL, **arguments})


def test_regions_that_are_too_small_are_refused_before_training(tmp_path, mvtec_root):
    model = DynamicLocalAugmentation(**SMALL, local={"region": (4, 128)}, max_updates=1)
    with pytest.raises(ValueError, match="region must be at least grid"):
        make_engine(tmp_path).fit(model, datamodule=data(mvtec_root))
