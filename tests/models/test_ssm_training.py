# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM trained by anomalib's engine: budget, schedule, seeds, resuming, grey images and bad input."""

import math
import shutil

import numpy as np
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import BMAD, Folder, MVTecAD
from anomalib.engine import Engine
from anomalib.models import get_model
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from PIL import Image
from torchvision.transforms.v2 import Compose, Normalize, Resize

from anomalib_ssl import SSM
from anomalib_ssl.scoring import NotFittedError

SMALL = {"widths": (4, 8, 8), "image_size": 32, "cell_sizes": (16, 32), "map_sigma": 2.0, "visualizer": False}


def data(root, **kwargs):
    return MVTecAD(root=root, category="plate", train_batch_size=2, eval_batch_size=4, num_workers=0, **kwargs)


def make_engine(path, *callbacks, **kwargs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return Engine(default_root_dir=path, callbacks=list(callbacks), **quiet, **kwargs)


class Recorder(Callback):
    """Note the learning rate and the logged losses of every update."""

    def __init__(self, stop_at=None):
        self.rates, self.losses, self.stop_at = [], [], stop_at

    def on_train_batch_start(self, trainer, *args):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(self, trainer, *args):
        self.losses.append({name: float(value) for name, value in trainer.logged_metrics.items() if "loss" in name})
        if trainer.global_step == self.stop_at:
            trainer.should_stop = True


def rand_images(count=3):
    return torch.rand(count, 3, 80, 80, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def scores(model):
    return model.eval()(rand_images()).anomaly_map


def test_learning_rate_falls_over_the_updates_that_are_run(tmp_path, mvtec_root):
    recorder = Recorder()
    engine = make_engine(tmp_path, recorder, max_steps=10)
    engine.fit(SSM(max_updates=5000, lr=0.01, **SMALL), datamodule=data(mvtec_root))
    expected = [0.01] * 3 + [0.001] * 3 + [0.0001] * 3 + [0.00001]
    assert recorder.rates == pytest.approx(expected)
    # The squared error counts ten times by default.
    weights = {"train_l2_loss": 10, "train_ssim_loss": 1, "train_gms_loss": 1, "train_mask_loss": 1}
    for losses in recorder.losses:
        assert set(losses) == {"train_loss", *weights}
        total = sum(weight * losses[name] for name, weight in weights.items())
        assert losses["train_loss"] == pytest.approx(total, rel=1e-5)


def test_training_learns_to_restore(tmp_path, mvtec_root):
    recorder = Recorder()
    model = SSM(max_updates=60, lr=0.01, seed=0, **SMALL)
    make_engine(tmp_path, recorder, limit_val_batches=0).fit(model, datamodule=data(mvtec_root))
    first, last = (
        {name: np.mean([loss[name] for loss in part]) for name in part[0]}
        for part in (recorder.losses[:5], recorder.losses[-5:])
    )
    assert last["train_l2_loss"] < 0.5 * first["train_l2_loss"]
    assert last["train_mask_loss"] < 0.5 * first["train_mask_loss"]
    assert last["train_ssim_loss"] < first["train_ssim_loss"]
    assert last["train_gms_loss"] < first["train_gms_loss"]


def test_seeds_give_the_same_weights_twice(tmp_path, mvtec_root):
    states = []
    for run, seed in enumerate((0, 0, 1)):
        model = SSM(max_updates=3, seed=seed, per_sample=True, uncover_probability=0.5, **SMALL)
        make_engine(tmp_path / str(run)).fit(model, datamodule=data(mvtec_root))
        states.append(model.model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["network.image_head.weight"], states[2]["network.image_head.weight"])


def test_checkpoint_gives_the_same_scores(tmp_path, mvtec_root):
    model = SSM(max_updates=3, threshold_quantile=0.9, **SMALL)
    with pytest.raises(NotFittedError):
        scores(model)
    engine = make_engine(tmp_path)
    engine.fit(model, datamodule=data(mvtec_root))
    threshold = model.model.refinement.threshold
    assert 0 < threshold < 1
    loaded = SSM.load_from_checkpoint(engine.best_model_path, map_location="cpu")
    assert torch.equal(loaded.model.refinement.threshold, threshold)
    assert torch.equal(scores(loaded), scores(model))
    # What the model has when its maps of the training images are looked at anew.
    datamodule = data(mvtec_root)
    datamodule.setup()
    clean = torch.stack([datamodule.train_data[i].image for i in range(6)])
    model.fit_statistics([model.pre_processor.transform(clean)])
    torch.testing.assert_close(model.model.refinement.threshold, threshold, atol=5e-6, rtol=0)


def test_given_threshold_is_not_overruled_by_a_checkpoint(tmp_path, mvtec_root):
    engine = make_engine(tmp_path)
    engine.fit(SSM(max_updates=1, **SMALL), datamodule=data(mvtec_root))
    load = SSM.load_from_checkpoint
    loaded = load(engine.best_model_path, map_location="cpu", refinement_threshold=0.5, refinement_passes=3)
    assert loaded.model.refinement.threshold == 0.5
    assert len(loaded.model.refine(torch.rand(1, 3, 32, 32))) == 3


def test_resuming_continues_the_schedule(tmp_path, mvtec_root):
    first, second = Recorder(stop_at=4), Recorder()
    engine = make_engine(tmp_path / "first", first)
    engine.fit(SSM(max_updates=10, lr=0.01, **SMALL), datamodule=data(mvtec_root))
    resumed = make_engine(tmp_path / "second", second)
    resumed.fit(SSM(max_updates=20, lr=0.01, **SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path)
    assert resumed.trainer.global_step == 20
    # The rate that the optimiser was saved with, then the longer budget's.
    assert second.rates == pytest.approx([0.001] + [0.01] + [0.001] * 6 + [0.0001] * 6 + [0.00001] * 2)


def test_train_test_and_predict(tmp_path, mvtec_root):
    engine = make_engine(tmp_path, precision="bf16-mixed")
    model = SSM(max_updates=3, initial_masks="checkerboard", inference_precision="bfloat16", **SMALL)
    (metrics,) = engine.train(model=model, datamodule=data(mvtec_root))
    assert set(metrics) == {"image_AUROC", "image_F1Score", "pixel_AUROC", "pixel_F1Score"}
    predictions = engine.predict(model=model, data_path=mvtec_root / "plate/test/spot")
    assert predictions[0].anomaly_map.shape[-2:] == (32, 32)
    assert predictions[0].pred_score.dtype == torch.float32


def gray_pngs(source, target):
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        Image.open(path).convert("L").save(target / path.name)


def test_gray_images_in_a_folder(tmp_path, mvtec_root):
    for folder in ("train/good", "test/good", "test/spot"):
        gray_pngs(mvtec_root / "plate" / folder, tmp_path / "data" / folder)
    datamodule = Folder(
        name="gray",
        root=tmp_path / "data",
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/spot",
        train_batch_size=3,
        num_workers=0,
    )
    model = SSM(max_updates=2, **SMALL)
    (metrics,) = make_engine(tmp_path).train(model=model, datamodule=datamodule)
    assert 0 <= metrics["image_AUROC"] <= 1
    image = datamodule.test_data[0].image
    assert image.shape[0] == 3
    assert torch.equal(image[0], image[2])


def test_gray_images_of_bmad(tmp_path, mvtec_root):
    """The medical benchmark, of whose sets some have masks."""
    root, plate = tmp_path / "BMAD/Brain", mvtec_root / "plate"
    gray_pngs(plate / "train/good", root / "train/good")
    for split in ("valid", "test"):
        gray_pngs(plate / "test/good", root / split / "good/img")
        gray_pngs(plate / "test/spot", root / split / "Ungood/img")
        masks = root / split / "Ungood/label"
        masks.mkdir()
        for path in (plate / "ground_truth/spot").iterdir():
            shutil.copy(path, masks / path.name.replace("_mask", ""))
    datamodule = BMAD(root=root.parent, category="Brain", train_batch_size=3, num_workers=0)
    (metrics,) = make_engine(tmp_path).train(model=SSM(max_updates=2, **SMALL), datamodule=datamodule)
    assert all(not math.isnan(value) for value in metrics.values())
    assert "image_AUROC" in metrics


class OneImage(MVTecAD):
    """A datamodule with a single training image."""

    def _setup(self, stage=None):
        super()._setup(stage)
        self.train_data.samples = self.train_data.samples.iloc[:1]


def test_a_single_image_is_enough(tmp_path, mvtec_root):
    engine = make_engine(tmp_path)
    engine.fit(SSM(max_updates=2, **SMALL), datamodule=OneImage(root=mvtec_root, category="plate", num_workers=0))
    assert engine.trainer.global_step == 2


def test_get_model_by_name():
    for name in ("ssm", "SSM", "s_s_m"):
        assert type(get_model(name, **SMALL)) is SSM
    init_args = {**SMALL, "widths": [4, 8], "image_size": [32, 48]}
    model = get_model({"class_path": "SSM", "init_args": init_args})
    assert model.model.refinement.size == (32, 48)


def test_size_follows_the_pre_processor():
    pre_processor = PreProcessor(Compose([Resize((64, 32), antialias=True)]))
    model = SSM(widths=(4, 8), cell_sizes=(8,), pre_processor=pre_processor, visualizer=False)
    assert model.model.refinement.size == (64, 32)
    assert model.draw_masks.cell_sizes == (1,)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")
@pytest.mark.slow
def test_compiled_training_learns_the_same(tmp_path, mvtec_root):
    losses = []
    for compiled in (False, True):
        recorder = Recorder()
        model = SSM(max_updates=3, compiled=compiled, lr=0.01, seed=0, **{**SMALL, "widths": (4, 8)})
        engine = make_engine(tmp_path / str(compiled), recorder, limit_val_batches=0)
        engine.fit(model, datamodule=data(mvtec_root))
        losses.append([loss["train_loss"] for loss in recorder.losses])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    # Equal not only because nothing was learned.
    assert losses[0][2] < 0.98 * losses[0][0]


def test_command_line(tmp_path, mvtec_root, monkeypatch, capfd):
    """What ``anomalib train`` does, in this process: only what needs a start of Python has one, for CutPaste."""
    monkeypatch.chdir(tmp_path)
    model = ["--model", "SSM", "--model.widths", "[4,8,8]", "--model.image_size", 32, "--model.cell_sizes", "[16,32]"]
    flags = [*model, "--model.max_updates", 3, "--model.uncovered_error", "kept", "--trainer.accelerator=cpu"]
    paths = ["--data", "MVTecAD", "--data.root", mvtec_root, "--data.category", "plate", "--data.num_workers", 0]
    AnomalibCLI(args=[str(part) for part in ("train", *flags, *paths, "--data.train_batch_size", 2)])
    assert "image_AUROC" in capfd.readouterr().out
    trained = tmp_path / "results/SSM/MVTecAD/plate/latest"
    saved = torch.load(trained / "weights/lightning/model.ckpt", weights_only=True)
    assert saved["global_step"] == 3
    assert saved["hyper_parameters"]["image_size"] == 32
    assert saved["hyper_parameters"]["uncovered_error"] == "kept"
    assert len(list((trained / "images").rglob("*.png"))) == 8


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": 36, "widths": (4, 8, 8)}, "image_size must be a multiple of 8"),
        ({"image_size": 40, "widths": (4, 8, 8, 8, 8), "cell_sizes": (64,)}, "image_size must be a multiple of 16"),
        ({"image_size": 0}, "image_size"),
        ({"cell_sizes": (40,)}, "cell_sizes"),
        ({"cell_sizes": (1,)}, "cell_sizes"),
        ({"cell_sizes": (256,)}, "num_masks"),
        ({"widths": (4,)}, "widths"),
        ({"max_updates": 0}, "max_updates"),
        ({"updates_per_epoch": 0}, "updates_per_epoch"),
        ({"lr": -1.0}, "lr"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"num_masks": 1}, "num_masks"),
        ({"uncover_probability": 2.0}, "uncover_probability"),
        ({"mask_weight": -1.0}, "mask_weight"),
        ({"refinement_passes": 0}, "refinement_passes"),
        ({"refinement_threshold": -1.0}, "refinement_threshold"),
        ({"refinement_ratio": 2.0}, "refinement_ratio"),
        ({"refinement_block": 5}, "refinement_block must divide"),
        ({"inference_chunk": 0}, "inference_chunk"),
        ({"threshold_quantile": 2.0}, "threshold_quantile"),
        ({"uncovered_error": "none"}, "uncovered_error"),
        ({"initial_masks": "stripes"}, "initial_masks"),
        ({"inference_precision": "float16"}, "inference_precision"),
        ({"pre_processor": PreProcessor(Compose([Resize((32, 32)), Normalize([0.5] * 3, [0.5] * 3)]))}, "Normalize"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        SSM(**{**SMALL, **arguments})
