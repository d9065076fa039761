# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM trained by anomalib's engine: losses, schedule, what is scored with, medical images and bad input."""

import math
import shutil

import numpy as np
import pytest
import torch
from anomalib.data import BMAD, MVTecAD
from anomalib.engine import Engine
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback
from PIL import Image
from torchvision.transforms.v2 import Compose, Resize

from anomalib_ssl import SSM
from anomalib_ssl.scoring import NotFittedError

SMALL = {"widths": (4, 8, 8), "image_size": 32, "cell_sizes": (16, 32), "visualizer": False}


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


def test_learning_rate_falls_over_the_updates_that_are_run(tmp_path, mvtec_root):
    recorder = Recorder()
    engine = make_engine(tmp_path, recorder, max_steps=10)
    engine.fit(SSM(max_updates=5000, lr=0.01, **SMALL), datamodule=data(mvtec_root))
    expected = [0.005 * (1 + math.cos(math.pi * update / 10)) for update in range(10)]
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
    # Of four seeds the ratios are 0.23, 0.34 and 0.81 at most.
    assert last["train_l2_loss"] < 0.7 * first["train_l2_loss"]
    assert last["train_mask_loss"] < 0.7 * first["train_mask_loss"]
    assert last["train_ssim_loss"] < first["train_ssim_loss"]


def test_an_untrained_model_refuses_to_score_and_to_be_looked_at():
    model, other, images = SSM(**SMALL).eval(), SSM(**SMALL).eval(), torch.rand(2, 3, 32, 32)
    for call in (model, model.model.refine):
        with pytest.raises(NotFittedError, match="Scorer has not been fitted"):
            call(images)
    with pytest.raises(ValueError, match="got none"):
        model.fit_statistics([])
    model.fit_statistics([images, images[:1]])
    assert model.model.scorer.num_fitted == 3
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(images).anomaly_map, model(images).anomaly_map)


def test_resuming_continues_the_schedule(tmp_path, mvtec_root):
    first, second = Recorder(stop_at=4), Recorder()
    engine = make_engine(tmp_path / "first", first)
    engine.fit(SSM(max_updates=10, lr=0.01, **SMALL), datamodule=data(mvtec_root))
    resumed = make_engine(tmp_path / "second", second)
    resumed.fit(SSM(max_updates=20, lr=0.01, **SMALL), datamodule=data(mvtec_root), ckpt_path=engine.best_model_path)
    assert resumed.trainer.global_step == 20
    # The rate that the optimiser was saved with, then the longer budget's.
    shares = [4 / 10, *(update / 20 for update in range(5, 20))]
    assert second.rates == pytest.approx([0.005 * (1 + math.cos(math.pi * share)) for share in shares])


def gray_pngs(source, target):
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        Image.open(path).convert("L").save(target / path.name)


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


def test_size_follows_the_pre_processor():
    pre_processor = PreProcessor(Compose([Resize((64, 32), antialias=True)]))
    model = SSM(widths=(4, 8), cell_sizes=(8,), pre_processor=pre_processor, visualizer=False)
    assert model.model.refinement.size == (64, 32)
    assert model.model.cells == (1,)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"image_size": 36, "widths": (4, 8, 8)}, "image_size must have sides that are multiples of 8 "),
        (
            {"image_size": 40, "widths": (4, 8, 8, 8, 8), "cell_sizes": (64,)},
            "image_size must have sides that are multiples of 16 ",
        ),
        ({"cell_sizes": (40,)}, "cell_sizes"),
        ({"cell_sizes": (1,)}, "cell_sizes"),
        ({"cell_sizes": (256,)}, "num_masks"),
        ({"widths": (4,)}, "widths"),
        ({"lr": -1.0}, "lr"),
        ({"num_masks": 1}, "num_masks"),
        ({"num_masks": 65, "initial_masks": "checkerboard"}, "num_masks"),
        ({"refinement_passes": 0}, "refinement_passes"),
        ({"initial_masks": "stripes"}, "initial_masks"),
        ({"score": "restored_max"}, "score"),
        ({"heat_map": "refined_max"}, "heat_map"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        SSM(**{**SMALL, **arguments})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"widths": 8}, "widths"),
        ({"cell_sizes": (16, 32.0)}, "cell_sizes"),
        ({"lr": "fast"}, "lr"),
        ({"num_masks": 2.5}, "num_masks"),
        ({"refinement_passes": 1.5}, "refinement_passes"),
    ],
)
def test_arguments_of_other_types_are_named(arguments, named):
    with pytest.raises(TypeError, match=named):
        SSM(**{**SMALL, **arguments})
