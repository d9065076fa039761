# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste trained by anomalib's engine: budget, seeds, resuming, statistics and bad input."""

import copy
import shutil

import pytest
import torch
from anomalib.data import Folder, MVTecAD
from anomalib.data.utils import read_image
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, seed_everything
from PIL import Image
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, RandomHorizontalFlip, Resize

from anomalib_ssl import CutPaste
from anomalib_ssl.scoring import NotFittedError

SMALL = {"backbone": "resnet10t", "image_size": 32, "visualizer": False}


def data(root, kind=MVTecAD, **kwargs):
    return kind(root=root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0, **kwargs)


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
    """Note the learning rate of every update, and the update of every validation."""

    def __init__(self, stop_at=None):
        self.rates, self.validations, self.stop_at = [], [], stop_at

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True

    def on_validation_start(self, trainer, *args):
        self.validations.append(trainer.global_step)


class OneImage(MVTecAD):
    """A datamodule with a single training image."""

    def _setup(self, stage=None):
        super()._setup(stage)
        self.train_data.samples = self.train_data.samples.iloc[:1]


def cosine(total):
    steps = torch.arange(total, dtype=torch.float64)
    return (0.03 * 0.5 * (1 + torch.cos(torch.pi * steps / total))).tolist()


@pytest.mark.parametrize(
    ("max_updates", "limits", "expected"),
    [
        (5, {}, 5),
        (7, {"max_epochs": 1}, 3),
        (7, {"max_steps": 4}, 4),
        (4, {"max_epochs": 10, "max_steps": 50}, 4),
        (4, {"max_epochs": -1}, 4),
        (10, {"limit_train_batches": 2, "max_epochs": 2}, 4),
        (10, {"accumulate_grad_batches": 2, "max_epochs": 2}, 4),
    ],
)
def test_training_ends_at_the_first_limit_and_the_schedule_spans_it(
    tmp_path, mvtec_root, max_updates, limits, expected
):
    recorder = Recorder()
    engine = make_engine(tmp_path, recorder, **limits)
    engine.fit(CutPaste(max_updates=max_updates, **SMALL), datamodule=data(mvtec_root))
    assert engine.trainer.global_step == expected
    rates = recorder.rates[:: limits.get("accumulate_grad_batches", 1)]
    if "accumulate_grad_batches" not in limits:
        assert rates == pytest.approx(cosine(expected))
    # Far below the budget's sensible interval there is one validation, after the last update.
    assert recorder.validations == [expected]


def test_validations_are_spread_over_the_budget(tmp_path, mvtec_root):
    recorder = Recorder()
    model = CutPaste(max_updates=11, **SMALL)
    make = model.configure_callbacks

    def with_short_interval():
        callbacks = make()
        budget = next(c for c in callbacks if type(c).__name__ == "UpdateBudget")
        budget.min_interval = 1
        return callbacks

    model.configure_callbacks = with_short_interval
    engine = make_engine(tmp_path, recorder)
    engine.fit(model, datamodule=data(mvtec_root))
    assert recorder.validations == [3, 6, 9, 11]


def test_validation_settings_of_the_user_are_obeyed(tmp_path, mvtec_root):
    recorder = Recorder()
    engine = make_engine(tmp_path, recorder, check_val_every_n_epoch=2)
    engine.fit(CutPaste(max_updates=14, **SMALL), datamodule=data(mvtec_root))
    assert recorder.validations == [6, 12, 14]


def test_seeds_give_the_same_weights_twice(tmp_path, mvtec_root):
    states = []
    for run, seed in enumerate((0, 0, 1)):
        model = CutPaste(max_updates=3, seed=seed, **SMALL)
        make_engine(tmp_path / str(run)).fit(model, datamodule=data(mvtec_root))
        states.append(model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["model.density.mean"], states[2]["model.density.mean"])
    seed_everything(0)
    model = CutPaste(max_updates=3, **SMALL)
    make_engine(tmp_path / "global").fit(model, datamodule=data(mvtec_root))
    assert torch.equal(model.state_dict()["model.density.mean"], states[0]["model.density.mean"])


def test_resuming_continues_the_schedule(tmp_path, mvtec_root):
    first, second = Recorder(stop_at=4), Recorder()
    engine = make_engine(tmp_path / "first", first)
    engine.fit(CutPaste(max_updates=10, seed=0, **SMALL), datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 4
    resumed = make_engine(tmp_path / "second", second)
    resumed.fit(CutPaste(max_updates=10, **SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path)
    assert resumed.trainer.global_step == 10
    assert first.rates + second.rates == pytest.approx(cosine(10))


def test_checkpoint_holds_the_statistics_of_its_weights(tmp_path, mvtec_root):
    model = CutPaste(max_updates=4, seed=0, gde_shrinkage="ledoit_wolf", **SMALL)
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = CutPaste.load_from_checkpoint(engine.best_model_path)
    assert loaded.input_size == (32, 32)
    assert loaded.hparams["gde_shrinkage"] == "ledoit_wolf"
    images = torch.rand(3, 3, 80, 80, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(loaded.eval()(images).pred_score, model.eval()(images).pred_score)
    by_hand = copy.deepcopy(model)
    datamodule = data(mvtec_root)
    datamodule.setup()
    clean = torch.stack([datamodule.train_data[i].image for i in range(6)])
    by_hand.fit_statistics([model.pre_processor.transform(clean)])
    torch.testing.assert_close(loaded.model.density.mean, by_hand.model.density.mean)


def test_density_sees_training_images_as_test_images_are_seen(tmp_path, mvtec_root):
    model = CutPaste(max_updates=1, seed=0, **SMALL)
    datamodule = data(mvtec_root, train_augmentations=RandomHorizontalFlip(p=1.0), test_augmentations=CenterCrop(48))
    make_engine(tmp_path).fit(model, datamodule=datamodule)
    fitted = model.model.density.mean.clone()
    # The training images keep their augmentation.
    augmented = torch.stack([datamodule.train_data[i].image for i in range(6)])
    paths = datamodule.train_data.samples.image_path
    images = torch.stack([read_image(path, as_tensor=True) for path in paths])
    resize = model.pre_processor.transform
    torch.testing.assert_close(augmented, resize(images.flip(-1)))
    model.fit_statistics([augmented])
    assert not torch.allclose(model.model.density.mean, fitted)
    model.fit_statistics([resize(CenterCrop(48)(images))])
    torch.testing.assert_close(model.model.density.mean, fitted)


def test_images_of_different_sizes(tmp_path, mvtec_root):
    folder = tmp_path / "data/good"
    folder.mkdir(parents=True)
    for index, path in enumerate(sorted((mvtec_root / "plate/train/good").iterdir())):
        Image.open(path).resize((60 + 10 * index, 90)).save(folder / path.name)
    datamodule = Folder(name="mixed", root=tmp_path / "data", normal_dir="good", train_batch_size=3, num_workers=0)
    model = CutPaste(max_updates=2, **SMALL)
    make_engine(tmp_path).fit(model, datamodule=datamodule)
    count = len(datamodule.train_data)
    assert model.model.density.num_samples == count
    images = torch.stack([datamodule.train_data[i].image for i in range(count)])
    fitted = model.model.density.mean.clone()
    model.fit_statistics([images])
    torch.testing.assert_close(model.model.density.mean, fitted)


def test_without_validation_the_last_weights_are_fitted_and_saved(tmp_path, mvtec_root):
    model = CutPaste(max_updates=4, **SMALL)
    engine = make_engine(tmp_path, limit_val_batches=0)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = CutPaste.load_from_checkpoint(engine.best_model_path)
    assert loaded.model.density.is_fitted
    assert torch.equal(loaded.model.density.mean, model.model.density.mean)


def test_train_test_and_predict(tmp_path, mvtec_root):
    model = CutPaste(max_updates=4, seed=0, **SMALL)
    engine = make_engine(tmp_path)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert len(predictions) == 4
    assert predictions[0].anomaly_map.shape[-2:] == (32, 32)
    assert predictions[0].pred_label is not None


def test_folder_without_masks(tmp_path, mvtec_root):
    datamodule = Folder(
        name="plate",
        root=mvtec_root / "plate",
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/spot",
        train_batch_size=4,
        num_workers=0,
    )
    (metrics,) = make_engine(tmp_path).train(model=CutPaste(max_updates=2, **SMALL), datamodule=datamodule)
    assert "image_AUROC" in metrics


def test_fast_dev_run(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, fast_dev_run=True)
    engine.fit(CutPaste(max_updates=4, **SMALL), datamodule=data(mvtec_root))
    assert engine.trainer.global_step == 1


def test_mixed_precision_scores_in_full(tmp_path, mvtec_root):
    model = CutPaste(max_updates=2, **SMALL)
    engine = make_engine(tmp_path, precision="bf16-mixed")
    engine.fit(model, datamodule=data(mvtec_root))
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert predictions[0].pred_score.dtype == torch.float32
    assert model.model.density.whitening.dtype == torch.float32


def test_trainer_arguments_hold_no_limit():
    assert not {"max_epochs", "max_steps", "max_time"} & set(CutPaste(**SMALL).trainer_arguments)


def test_get_model_by_name():
    model = get_model("cutpaste", variant="scar", **SMALL)
    assert type(model) is CutPaste
    assert model.model.head[-1].out_features == 2


def test_checkpoint_of_a_model_built_from_a_dictionary_loads(tmp_path, mvtec_root):
    init_args = {**SMALL, "area": [0.05, 0.1], "image_size": [32, 48], "max_updates": 1}
    model = get_model({"class_path": "CutPaste", "init_args": init_args})
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    loaded = CutPaste.load_from_checkpoint(engine.best_model_path)
    assert loaded.hparams["area"] == [0.05, 0.1]
    assert loaded.input_size == (32, 48)


def test_scoring_before_fitting_is_an_error(tmp_path, mvtec_root):
    with pytest.raises(NotFittedError, match="train the model or load a trained checkpoint"):
        make_engine(tmp_path).test(model=CutPaste(**SMALL), datamodule=data(mvtec_root))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"variant": "4way"}, "variant"),
        ({"area": (0.5, 0.1)}, "area"),
        ({"aspect": ((0.0, 1.0), (1.0, 3.3))}, "aspect"),
        ({"scar_width": (0, 5)}, "scar_width"),
        ({"scar_length": (9, 5)}, "scar_length"),
        ({"scar_angle": -1}, "scar_angle"),
        ({"patch_jitter": 0.6}, "patch_jitter"),
        ({"base_jitter": 0.6}, "base_jitter"),
        ({"base_shift": -1}, "base_shift"),
        ({"backbone": "resnet19"}, "backbone"),
        ({"image_size": 0}, "image_size"),
        ({"max_updates": 0}, "max_updates"),
        ({"lr": -1.0}, "lr"),
        ({"momentum": 2.0}, "momentum"),
        ({"gde_shrinkage": "oas"}, "gde_shrinkage"),
        ({"pre_processor": PreProcessor(Compose([Resize((32, 32)), Normalize([0.5] * 3, [0.5] * 3)]))}, "Normalize"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        CutPaste(**{**SMALL, **arguments})


def test_bad_data_is_refused_before_training(tmp_path, mvtec_root):
    with pytest.raises(ValueError, match="smaller than the largest scar"):
        make_engine(tmp_path / "a").fit(
            CutPaste(**{**SMALL, "image_size": 24}, reference_size=24, max_updates=1), datamodule=data(mvtec_root)
        )
    with pytest.raises(ValueError, match="at least 2 training images, got 1"):
        make_engine(tmp_path / "b").fit(CutPaste(max_updates=1, **SMALL), datamodule=data(mvtec_root, OneImage))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
def test_compiled_training_learns_the_same(mvtec_root, tmp_path):
    weights = {}
    for compiled in (False, True):
        model = CutPaste(**SMALL | {"backbone": "test_resnet"}, max_updates=1, compiled=compiled, seed=0)
        engine = make_engine(tmp_path / str(compiled))
        engine.fit(model, datamodule=data(mvtec_root))
        # Nothing compiled is left in copies, or in files that hold the whole model.
        assert set(copy.deepcopy(model).state_dict()) == set(model.state_dict())
        assert engine.export(model, "torch", export_root=tmp_path / str(compiled)).exists()
        weights[compiled] = model.model.state_dict()
    moved = CutPaste(**SMALL | {"backbone": "test_resnet"}, seed=0).model.state_dict()
    for name, value in weights[False].items():
        if name.startswith("backbone") and value.is_floating_point():
            torch.testing.assert_close(weights[True][name], value, atol=2e-4, rtol=1e-3, msg=name)
    assert not torch.equal(moved["backbone.network.conv1.0.weight"], weights[True]["backbone.network.conv1.0.weight"])
