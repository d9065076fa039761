# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training fed from memory, through Lightning and anomalib: images, order, epochs, resuming, and when it streams."""

import gc
import json
import logging
import subprocess
import sys
import weakref
from itertools import chain
from pathlib import Path

import pytest
import torch
from anomalib.data import Folder, ImageBatch, MVTecAD
from anomalib.engine import Engine
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler
from torchvision.transforms import v2

from anomalib_ssl import CutPaste
from anomalib_ssl.training.images.batches import StoredBatches

NUM_IMAGES = 6


class Recorder(Callback):
    """Note what the model was given at every update, and stop or save on the way."""

    def __init__(self, stop_at=None, save_at=None, save_to=None):
        self.stop_at, self.save_at, self.save_to = stop_at, save_at, save_to
        self.batches, self.images, self.epochs = [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.batches.append([Path(path).stem for path in batch.image_path])
        self.epochs.append(trainer.current_epoch)
        # After the pre-processor, as the training step saw them.
        self.images += [(Path(path).stem, image) for path, image in zip(batch.image_path, batch.image, strict=True)]
        if len(self.batches) == self.save_at:
            trainer.save_checkpoint(self.save_to)
        if len(self.batches) == self.stop_at:
            trainer.should_stop = True

    @property
    def order(self):
        return list(chain.from_iterable(self.batches))


def data(root, batch_size=2, kind=MVTecAD, **kwargs):
    return kind(root=root, category="plate", train_batch_size=batch_size, num_workers=0, **kwargs)


def make_model(max_updates=6, **kwargs):
    return CutPaste(
        **{"backbone": "test_resnet", "image_size": 32, "visualizer": False, "seed": 0, **kwargs},
        max_updates=max_updates,
    )


def fit(path, model, datamodule, recorder=None, ckpt_path=None, **kwargs):
    recorder = recorder or Recorder()
    engine = Engine(
        default_root_dir=path,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[recorder],
        **{"limit_val_batches": 0, **kwargs},
    )
    engine.fit(model, datamodule=datamodule, ckpt_path=ckpt_path)
    return recorder, engine


def passes(order, size=NUM_IMAGES):
    """Cut a sequence of images into passes."""
    return [order[start : start + size] for start in range(0, len(order), size)]


def is_full_pass(names):
    return len(names) == len(set(names)) == NUM_IMAGES


@pytest.mark.parametrize(
    ("size", "augmentations", "tolerance"),
    [
        (80, None, 0.0),
        (32, None, 0.5 / 255 + 1e-6),
        (48, v2.CenterCrop(48), 0.0),
        (32, v2.CenterCrop(48), 0.5 / 255 + 1e-6),
        # What is not baked in is done to exact images.
        (32, v2.RandomHorizontalFlip(p=1.0), 0.0),
        (32, v2.Normalize([0.1] * 3, [1.0] * 3), 1e-6),
        (80, v2.Compose([v2.Resize((80, 80)), v2.RandomInvert(p=1.0)]), 1e-6),
    ],
)
def test_the_model_sees_the_images_of_the_stock_loader(tmp_path, mvtec_root, size, augmentations, tolerance):
    seen = []
    for in_memory in (True, False):
        datamodule = data(mvtec_root, train_augmentations=augmentations)
        recorder, _ = fit(tmp_path, make_model(3, image_size=size, in_memory=in_memory), datamodule)
        seen.append(dict(recorder.images))
    memory, stock = seen
    assert memory.keys() == stock.keys()
    for name, image in memory.items():
        assert image.shape == stock[name].shape == (3, size, size)
        assert (image - stock[name]).abs().max() <= tolerance


def test_random_augmentations_stay_random_for_each_image(tmp_path, mvtec_root):
    datamodule = data(mvtec_root, batch_size=6, train_augmentations=v2.RandomHorizontalFlip())
    recorder, _ = fit(tmp_path, make_model(6), datamodule)
    plain, _ = fit(tmp_path, make_model(1), data(mvtec_root, batch_size=6))
    plain = dict(plain.images)
    # Against the unflipped image's left half, whichever is nearer.
    flipped = [
        (image - plain[name].flip(-1)).abs().max() < (image - plain[name]).abs().max()
        for name, image in recorder.images
    ]
    in_batches = [sum(flipped[start : start + 6]) for start in range(0, 36, 6)]
    assert 0 < sum(flipped) < 36
    assert any(0 < count < 6 for count in in_batches)


def test_an_epoch_is_a_shuffled_pass(tmp_path, mvtec_root):
    recorder, engine = fit(tmp_path, make_model(9), data(mvtec_root))
    assert [len(batch) for batch in recorder.batches] == [2] * 9
    assert recorder.epochs == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    first, second, third = passes(recorder.order)
    assert all(map(is_full_pass, (first, second, third)))
    assert first != second != third
    assert engine.trainer.num_training_batches == 3


def test_the_order_follows_from_the_seed(tmp_path, mvtec_root):
    orders = []
    for seed, variant in ((0, "3way"), (0, "normal"), (1, "3way")):
        recorder, _ = fit(tmp_path, make_model(6, seed=seed, variant=variant), data(mvtec_root))
        orders.append(recorder.order)
    # Another pretext task draws other random numbers, but leaves the order alone.
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(("batch_size", "sizes"), [(5, [6]), (4, [4, 2]), (32, [6]), (1, [1] * 6)])
def test_no_tail_of_one_and_never_no_batch(tmp_path, mvtec_root, batch_size, sizes):
    recorder, engine = fit(tmp_path, make_model(50), data(mvtec_root, batch_size), max_epochs=2)
    assert [len(batch) for batch in recorder.batches] == 2 * sizes
    assert engine.trainer.global_step == 2 * len(sizes)


class InOrder(MVTecAD):
    """A datamodule that does not shuffle."""

    def train_dataloader(self):
        return DataLoader(self.train_data, self.train_batch_size, collate_fn=self.train_data.collate_fn)


def test_a_loader_without_shuffle_keeps_its_order(tmp_path, mvtec_root):
    recorder, _ = fit(tmp_path, make_model(6), data(mvtec_root, kind=InOrder))
    assert passes(recorder.order) == [sorted(set(recorder.order))] * 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_updates_per_epoch_come_from_consecutive_passes(tmp_path, mvtec_root, accumulate):
    model = make_model(50, updates_per_epoch=4)
    limits = {"max_epochs": 3, "accumulate_grad_batches": accumulate}
    recorder, engine = fit(tmp_path, model, data(mvtec_root), **limits)
    assert engine.trainer.global_step == 12
    assert recorder.epochs == [0] * 4 * accumulate + [1] * 4 * accumulate + [2] * 4 * accumulate
    assert all(map(is_full_pass, passes(recorder.order)))


@pytest.mark.parametrize(
    ("limits", "batches", "updates"),
    [
        ({"limit_train_batches": 2, "max_epochs": 3}, 6, 6),
        ({"limit_train_batches": 0.67, "max_epochs": 3}, 6, 6),
        ({"accumulate_grad_batches": 2, "max_epochs": 2}, 6, 4),
        ({"max_steps": 4}, 4, 4),
        ({"fast_dev_run": True}, 1, 1),
        ({"fast_dev_run": 2}, 2, 2),
    ],
)
def test_the_limits_of_the_trainer_are_obeyed(tmp_path, mvtec_root, limits, batches, updates):
    recorder, engine = fit(tmp_path, make_model(50), data(mvtec_root), **limits)
    assert (len(recorder.batches), engine.trainer.global_step) == (batches, updates)
    # Within an epoch no image comes twice.
    for epoch in set(recorder.epochs):
        names = [
            name for batch, e in zip(recorder.batches, recorder.epochs, strict=True) if e == epoch for name in batch
        ]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("updates_per_epoch", [None, 5])
def test_overfitting_repeats_the_same_batches(tmp_path, mvtec_root, updates_per_epoch):
    model = make_model(50, updates_per_epoch=updates_per_epoch)
    recorder, _ = fit(tmp_path, model, data(mvtec_root), overfit_batches=2, max_epochs=3)
    assert recorder.batches == [["000", "001"], ["002", "003"]] * 3


@pytest.mark.parametrize("how", ["save", "stop"])
@pytest.mark.parametrize(
    ("at", "options", "limits"),
    [
        (2, {}, {}),
        (3, {}, {}),
        (4, {}, {}),
        (4, {"updates_per_epoch": 7}, {}),
        (3, {}, {"limit_train_batches": 2}),
        (4, {}, {"accumulate_grad_batches": 2}),
        (4, {}, {"limit_val_batches": 1, "check_val_every_n_epoch": None, "val_check_interval": 2}),
        (3, {}, {"limit_val_batches": 1, "check_val_every_n_epoch": 1, "val_check_interval": 3}),
    ],
)
def test_a_resumed_run_goes_on_with_the_same_batches(tmp_path, mvtec_root, how, at, options, limits):
    whole, _ = fit(tmp_path / "whole", make_model(6, **options), data(mvtec_root), **limits)
    path = tmp_path / "within.ckpt"
    recorder = Recorder(stop_at=at, **({"save_at": at, "save_to": path} if how == "save" else {}))
    first, engine = fit(tmp_path / "first", make_model(6, **options), data(mvtec_root), recorder, **limits)
    # Without a seed of its own the resumed run takes the checkpoint's.
    second, _ = fit(
        tmp_path / "second",
        make_model(6, **options, seed=None),
        data(mvtec_root),
        ckpt_path=path if how == "save" else engine.best_model_path,
        **limits,
    )
    assert len(first.batches) == at
    assert first.batches + second.batches == whole.batches


class Dropping(MVTecAD):
    def train_dataloader(self):
        return DataLoader(self.train_data, 4, shuffle=True, drop_last=True, collate_fn=self.train_data.collate_fn)


class Weighted(MVTecAD):
    def train_dataloader(self):
        sampler = WeightedRandomSampler([1.0] * 6, 6)
        return DataLoader(self.train_data, 2, sampler=sampler, collate_fn=self.train_data.collate_fn)


class OwnBatches(MVTecAD):
    def train_dataloader(self):
        batches = [[0, 1, 2], [3, 4, 5]]
        return DataLoader(self.train_data, batch_sampler=batches, collate_fn=self.train_data.collate_fn)


class Part(MVTecAD):
    def train_dataloader(self):
        return DataLoader(Subset(self.train_data, range(4)), 2, collate_fn=self.train_data.collate_fn)


class Several(MVTecAD):
    def train_dataloader(self):
        return [super().train_dataloader(), super().train_dataloader()]


def collate(items):
    return ImageBatch.collate(items)


class OwnCollation(MVTecAD):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.external_collate_fn = collate


class Unbound(torch.nn.Module):
    def forward(self, *inputs):
        return inputs if len(inputs) > 1 else inputs[0]


@pytest.mark.parametrize(
    ("kind", "options", "arguments", "reason"),
    [
        (MVTecAD, {"in_memory": False}, {}, "in_memory is off"),
        (MVTecAD, {"memory_limits": (0.0, 1e-6)}, {}, "exceed memory_limits 0 and 1e-06 GiB"),
        (MVTecAD, {}, {"train_augmentations": Unbound()}, "Unbound is no transform"),
        (Dropping, {}, {}, "drop_last is on"),
        (Weighted, {}, {}, "WeightedRandomSampler"),
        (OwnBatches, {}, {}, "batches are sampled by list"),
        (Part, {}, {}, "Subset is no AnomalibDataset"),
        (OwnCollation, {}, {}, "collated"),
    ],
)
def test_it_streams_where_memory_would_change_the_meaning(
    tmp_path, mvtec_root, caplog, kind, options, arguments, reason
):
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        recorder, _ = fit(tmp_path, make_model(3, **options), data(mvtec_root, kind=kind, **arguments))
    assert len(recorder.batches) == 3
    (record,) = (record for record in caplog.records if record.message.startswith("Training images are"))
    assert "streamed" in record.message
    assert reason in record.message


def test_new_loaders_on_request_are_streamed(tmp_path, mvtec_root, caplog):
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        fit(tmp_path, make_model(3), data(mvtec_root), reload_dataloaders_every_n_epochs=1)
    assert "reload_dataloaders_every_n_epochs" in caplog.text


def test_several_loaders_are_left_to_lightning(tmp_path, mvtec_root, caplog):
    # anomalib's pre-processor does not take the lists of batches that Lightning makes of them.
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"), pytest.raises(AttributeError, match="'list'"):
        fit(tmp_path, make_model(1), data(mvtec_root, kind=Several))
    assert "no single DataLoader, but a list" in caplog.text


def test_one_line_says_where_the_images_are(tmp_path, mvtec_root, caplog):
    with caplog.at_level(logging.INFO, logger="anomalib_ssl"):
        fit(tmp_path, make_model(1), data(mvtec_root))
    (record,) = (record for record in caplog.records if record.message.startswith("Training images are"))
    assert record.levelno == logging.INFO
    assert "6 images in device memory (cpu), 18432 bytes" in record.message


def test_updates_per_epoch_without_memory_is_warned_about(tmp_path, mvtec_root, caplog):
    recorder, _ = fit(tmp_path, make_model(4, in_memory=False, updates_per_epoch=2), data(mvtec_root))
    assert recorder.epochs == [0, 0, 0, 1]
    (record,) = (record for record in caplog.records if "updates_per_epoch" in record.message)
    assert "updates_per_epoch=2 has no effect" in record.message


class Catcher(Callback):
    """Hold on to the feed's images weakly."""

    def on_train_start(self, trainer, module):
        feed = trainer.train_dataloader
        assert isinstance(feed, StoredBatches)
        self.images = weakref.ref(feed.memory.images)


def test_memory_is_released_and_a_second_fit_works(tmp_path, mvtec_root):
    model, datamodule, catcher = make_model(3), data(mvtec_root), Catcher()
    first = Recorder()
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[first, catcher], limit_val_batches=0
    )
    trainer.fit(model, datamodule=datamodule)
    gc.collect()
    assert catcher.images() is None
    second, _ = fit(tmp_path, model, datamodule)
    assert len(second.batches) == 3
    assert all(map(is_full_pass, (first.order, second.order)))


class FailingCatcher(Catcher):
    def on_train_batch_end(self, *args):
        raise ArithmeticError


def test_memory_is_released_after_an_error(tmp_path, mvtec_root):
    catcher = FailingCatcher()
    trainer = Trainer(
        default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[catcher], limit_val_batches=0
    )
    with pytest.raises(ArithmeticError):
        trainer.fit(make_model(3), datamodule=data(mvtec_root))
    gc.collect()
    assert catcher.images() is None


def test_images_are_read_twice_for_any_number_of_epochs_and_validations(tmp_path, mvtec_root, monkeypatch):
    from anomalib.data.datasets.base import image

    reads = []
    read = image.read_image
    monkeypatch.setattr(image, "read_image", lambda path, **kwargs: reads.append(Path(path)) or read(path, **kwargs))
    fit(
        tmp_path, make_model(12), data(mvtec_root), check_val_every_n_epoch=1, val_check_interval=3, limit_val_batches=1
    )
    training = [path.stem for path in reads if "train" in path.parts]
    # Once to store them for training, once more in full precision for the statistics.
    assert sorted(training) == sorted(2 * [f"{index:03d}" for index in range(NUM_IMAGES)])


def test_a_loader_without_a_datamodule(tmp_path, mvtec_root):
    datamodule = data(mvtec_root)
    datamodule.setup()
    recorder = Recorder()
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", logger=False, callbacks=[recorder, Catcher()])
    trainer.fit(make_model(3), train_dataloaders=datamodule.train_dataloader())
    assert is_full_pass(recorder.order)
    assert recorder.images[0][1].shape == (3, 32, 32)


def test_folder(tmp_path, mvtec_root):
    datamodule = Folder(
        name="plate", root=mvtec_root / "plate", normal_dir="train/good", train_batch_size=3, num_workers=2
    )
    recorder, _ = fit(tmp_path, make_model(4), datamodule)
    count = len(datamodule.train_data)
    assert all(len(set(names)) == count for names in passes(recorder.order, count) if len(names) == count)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"memory_limits": (4.0,)}, "memory_limits"),
        ({"memory_limits": (-1.0, 16.0)}, "memory_limits"),
        ({"updates_per_epoch": 0}, "updates_per_epoch"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        make_model(**arguments)


PARALLEL = """
import json, sys
from pathlib import Path
import torch
from anomalib.data import MVTecAD
from lightning.pytorch import Callback, Trainer
from anomalib_ssl import CutPaste

root, output = map(Path, sys.argv[1:])

class Recorder(Callback):
    def __init__(self):
        self.batches = []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.random = torch.rand(()).item()
        self.batches.append([Path(path).stem for path in batch.image_path])

    def on_train_end(self, trainer, module):
        found = {"batches": self.batches, "random": self.random}
        (output / f"{trainer.global_rank}.json").write_text(json.dumps(found))

if __name__ == "__main__":
    # Forked, since starting a second Python takes longer than the whole run.
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, default_root_dir=output,
        callbacks=[Recorder()],
    )
    model = CutPaste(backbone="test_resnet", image_size=32, max_updates=4, seed=0, visualizer=False)
    trainer.fit(model, datamodule=MVTecAD(root=root, category="plate", train_batch_size=2, num_workers=0))
"""


def test_two_processes_share_each_pass(tmp_path, mvtec_root):
    script = tmp_path / "parallel.py"
    script.write_text(PARALLEL)
    command = [sys.executable, str(script), str(mvtec_root), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    # Three images for each: the tail of one joins the batch of two.
    assert [[len(batch) for batch in rank["batches"]] for rank in ranks] == [[3] * 4] * 2
    orders = [[*ranks[0]["batches"][number], *ranks[1]["batches"][number]] for number in range(4)]
    assert all(map(is_full_pass, orders))
    assert orders[0] != orders[1]
    assert ranks[0]["random"] != ranks[1]["random"]
