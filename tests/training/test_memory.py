# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training images kept in memory: where, how exactly, and what is refused."""

import copy

import pytest
import torch
from anomalib.data import ImageBatch, MVTecADDataset
from PIL import Image
from torchvision.transforms import v2

from anomalib_ssl.training.images.memory import GIB, NotStoredError, check_memory_limits, choose_place, store

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)


@pytest.fixture
def dataset(mvtec_root):
    return MVTecADDataset(root=mvtec_root, category="plate", split="train")


class Overexposed(MVTecADDataset):
    """A data set whose images leave [0, 1]."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item.image = item.image * 2
        return item


@pytest.mark.parametrize(
    ("gib", "limits", "device", "place"),
    [
        (1, (4, 16), CUDA, "device"),
        (4, (4, 16), CUDA, "device"),
        (5, (4, 16), CUDA, "host"),
        (5, (16, 4), CUDA, "device"),
        (1, (0, 16), CUDA, "host"),
        (5, (4, 16), CPU, "device"),
        (5, (16, 4), CPU, "device"),
    ],
)
def test_place_by_size(gib, limits, device, place):
    assert choose_place(gib * GIB, limits, device) == place


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_nothing_beyond_both_limits(device):
    with pytest.raises(NotStoredError, match=r"17\.00 GiB.*memory_limits 4 and 16 GiB"):
        choose_place(17 * GIB, (4, 16), device)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_without_fractions_are_exact(dataset, workers):
    memory = store(dataset, [], CPU, (1, 1), num_workers=workers)
    indices = torch.tensor([4, 0, 5])
    batch = memory.batch(indices, indices, None)
    stock = ImageBatch.collate([dataset[index] for index in indices.tolist()])
    assert batch.image.dtype == torch.float32
    assert torch.equal(batch.image, stock.image)
    assert torch.equal(batch.gt_label, stock.gt_label)
    assert batch.image_path == stock.image_path
    assert batch.gt_mask is None
    assert (len(memory), memory.num_bytes, memory.place) == (6, 6 * 3 * 80 * 80, "device memory (cpu)")


def test_resized_images_are_off_by_half_a_grey_level_at_most(dataset):
    resize = v2.Resize((32, 32))
    memory = store(dataset, [resize], CPU, (1, 1))
    indices = torch.arange(6)
    images = memory.batch(indices, indices, None).image
    exact = resize(torch.stack([dataset[index].image for index in range(6)]))
    error = (images - exact).abs().max()
    assert 0 < error <= 0.5 / 255 + 1e-6


def test_transforms_draw_anew_for_each_image(dataset):
    memory = store(dataset, [], CPU, (1, 1))
    indices = torch.zeros(16, dtype=torch.int64)
    images = memory.batch(indices, indices, v2.RandomHorizontalFlip(p=0.5)).image
    plain = dataset[0].image
    flipped = [torch.equal(image, plain.flip(-1)) for image in images]
    assert any(flipped)
    assert not all(flipped)
    assert all(torch.equal(image, plain) for image, flip in zip(images, flipped, strict=True) if not flip)


def test_images_of_different_sizes_are_collated_as_by_anomalib(dataset, tmp_path):
    dataset = copy.deepcopy(dataset)
    for index, path in enumerate(dataset.samples.image_path):
        Image.open(path).resize((60 + 10 * index, 90)).save(tmp_path / f"{index}.png")
        dataset.samples.loc[index, "image_path"] = str(tmp_path / f"{index}.png")
    memory = store(dataset, [], CPU, (1, 1))
    assert memory.num_bytes == sum(3 * 90 * (60 + 10 * index) for index in range(6))
    indices = torch.tensor([1, 4])
    stock = ImageBatch.collate([dataset[1], dataset[4]])
    assert torch.equal(memory.batch(indices, indices, None).image, stock.image)


def test_images_that_turn_out_larger_than_the_first_are_refused(dataset, tmp_path):
    dataset = copy.deepcopy(dataset)
    for index, path in enumerate(dataset.samples.image_path):
        side = 8 if index == 0 else 200
        Image.open(path).resize((side, side)).save(tmp_path / f"{index}.png")
        dataset.samples.loc[index, "image_path"] = str(tmp_path / f"{index}.png")
    limit = 3 * 200 * 200 * 4 / GIB
    with pytest.raises(NotStoredError, match="exceed memory_limits"):
        store(dataset, [], CPU, (limit, limit))


def test_decoding_stops_at_the_first_image_of_a_set_too_large(dataset, monkeypatch):
    reads = []
    getitem = MVTecADDataset.__getitem__
    monkeypatch.setattr(MVTecADDataset, "__getitem__", lambda self, i: reads.append(i) or getitem(self, i))
    with pytest.raises(NotStoredError, match="exceed memory_limits"):
        store(dataset, [], CPU, (0.0, 1e-6))
    assert reads == [0]


def test_images_outside_the_unit_interval_are_refused(mvtec_root):
    with pytest.raises(NotStoredError, match=r"plate.*leave \[0, 1\]"):
        store(Overexposed(root=mvtec_root, category="plate", split="train"), [], CPU, (1, 1))


def test_storing_leaves_random_numbers_and_the_dataset_alone(dataset):
    dataset.augmentations = v2.RandomHorizontalFlip()
    before, state = dataset.augmentations, torch.get_rng_state()
    store(dataset, [v2.Resize((8, 8))], CPU, (1, 1))
    assert dataset.augmentations is before
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("limits", [(1.0,), (-1.0, 1.0), (1.0, float("nan"))])
def test_bad_limits_are_named(limits):
    with pytest.raises(ValueError, match="memory_limits"):
        check_memory_limits(limits)


@pytest.mark.gpu
@pytest.mark.parametrize(("limits", "place"), [((1, 1), "device memory"), ((0, 1), "pinned host memory")])
def test_on_a_gpu_batches_are_equal_and_do_not_synchronise(dataset, limits, place):
    memory = store(dataset, [], CUDA, limits)
    assert memory.place.startswith(place)
    indices = torch.tensor([3, 1])
    on_device = indices.to(CUDA)
    memory.batch(indices, on_device, None)
    torch.cuda.set_sync_debug_mode("error")
    try:
        batch = memory.batch(indices, on_device, None)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert batch.image.device == batch.gt_label.device == CUDA
    assert torch.equal(batch.image.cpu(), torch.stack([dataset[3].image, dataset[1].image]))
    flipped = memory.batch(indices, on_device, v2.RandomHorizontalFlip(p=1.0))
    assert torch.equal(flipped.image, batch.image.flip(-1))
