# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local augmentation: operations against image-by-image references, weights, redrawing, exclusion, replay."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from kornia.augmentation import AugmentationSequential
from scipy import ndimage
from torchvision.transforms.v2 import functional as tv

from anomalib_ssl.augmentations import KorniaAugmentation, LocalAugmentation, dynamic_weights
from anomalib_ssl.augmentations.local_augmentation.operations import OPERATIONS


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def draw(augmentation, images, seed=0):
    return augmentation.sample(images.shape, images.device, torch.Generator().manual_seed(seed))


def rectangle(parameters, sample, number=0):
    top, left, height, width = (int(parameters[name][sample, number]) for name in ("top", "left", "height", "width"))
    return slice(top, top + height), slice(left, left + width)


def rotated(crop, angle):
    """Rotate a crop (h, w, 3) counter-clockwise about its centre, by SciPy, with the ones mask that goes with it."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos, sin], [-sin, cos]])
    center = (np.array(crop.shape[:2]) - 1) / 2
    offset = center - matrix @ center

    def turn(plane):
        return ndimage.affine_transform(plane, matrix, offset, order=1, mode="grid-constant", cval=0.0)

    turned = np.stack([turn(crop[..., channel]) for channel in range(3)], axis=-1)
    return turned + (1 - turn(np.ones(crop.shape[:2])))[..., None] * crop


def permuted(crop, cells, grid):
    high, wide = crop.shape[0] // grid, crop.shape[1] // grid
    result = crop.copy()
    for target, source in enumerate(cells):
        (r, c), (from_r, from_c) = divmod(target, grid), divmod(int(source), grid)
        result[r * high : (r + 1) * high, c * wide : (c + 1) * wide] = crop[
            from_r * high : (from_r + 1) * high, from_c * wide : (from_c + 1) * wide
        ]
    return result


def jittered(crop, parameters, sample):
    image = torch.as_tensor(crop).permute(2, 0, 1)
    steps = {
        "brightness": tv.adjust_brightness,
        "contrast": tv.adjust_contrast,
        "saturation": tv.adjust_saturation,
        "hue": tv.adjust_hue,
    }
    for index in parameters["order"][0].tolist():
        name = list(steps)[index]
        image = steps[name](image, float(parameters[name][sample]))
    return image.permute(1, 2, 0).numpy()


def separate(images, parameters, augment):
    """Images changed in each way by itself (K, B, C, H, W), and the weights (B, K) of the ways."""
    alone = [replace(augment, operations=(name,), min_change=0) for name in augment.operations]
    results = torch.stack([one.apply(images, parameters)[0] for one in alone])
    return results, augment.changes(images, parameters).weights


def reference(crop, name, parameters, sample, grid=2):
    if name == "rotation":
        return rotated(crop, float(parameters["angle"][sample]))
    if name == "jitter":
        return jittered(crop, parameters, sample)
    if name == "permutation":
        return permuted(crop, parameters["cells"][sample], grid)
    return np.repeat(crop @ np.array([[0.299], [0.587], [0.114]]), 3, axis=2)


@pytest.mark.parametrize("size", [(64, 64), (48, 80)])
@pytest.mark.parametrize("grid", [2, 3])
def test_each_operation_equals_its_reference(size, grid):
    images = rand_images(5, 3, *size).double()
    augment = LocalAugmentation(grid=grid, tries=1, min_change=0)
    parameters = draw(augment, images)
    results, weights = separate(images, parameters, augment)
    masks = augment.apply(images, parameters)[1]
    for i in range(len(images)):
        rows, cols = rectangle(parameters, i)
        image = images[i].permute(1, 2, 0).numpy()
        changes = []
        for name, result in zip(OPERATIONS, results, strict=True):
            expected = image.copy()
            expected[rows, cols] = reference(image[rows, cols], name, parameters, i, grid)
            np.testing.assert_allclose(result[i].permute(1, 2, 0).numpy(), expected, atol=1e-5, err_msg=name)
            changes.append(np.mean((expected - image)[rows, cols] ** 2))
        np.testing.assert_allclose(weights[i], np.array(changes) / np.sum(changes), atol=1e-6)
        inside = np.zeros(size, dtype=bool)
        inside[rows, cols] = True
        assert (masks[i, 0].numpy() == inside).all()


def test_blend_is_the_weighted_mean_inside_and_nothing_outside():
    images = rand_images(6, 3, 64, 64).double()
    augment = LocalAugmentation(tries=1)
    parameters = draw(augment, images)
    results, weights = separate(images, parameters, augment)
    blended, masks = augment.apply(images, parameters)
    expected = sum(result * weight.view(-1, 1, 1, 1) for result, weight in zip(results, weights.T, strict=True))
    torch.testing.assert_close(blended, torch.where(masks, expected, images))
    assert torch.equal(torch.where(masks, images, blended), images)
    assert ((blended != images) & masks).flatten(1).any(dim=1).all()


def test_grey_images_give_no_weight_to_the_loss_of_colour():
    images = rand_images(8, 1, 64, 64).expand(-1, 3, -1, -1)
    changes = LocalAugmentation().changes(images, draw(LocalAugmentation(), images))
    assert (changes.weights[:, 3] < 1e-9).all()
    torch.testing.assert_close(changes.weights.sum(dim=1), torch.ones(8))
    assert LocalAugmentation()(images)[1].flatten(1).any(dim=1).all()


def test_static_weights_are_equal():
    images = rand_images(4, 3, 64, 64)
    augment = LocalAugmentation(weighting="static")
    parameters = draw(augment, images)
    assert (augment.changes(images, parameters).weights == 0.25).all()
    # The operations themselves are those of dynamic weights.
    dynamic = LocalAugmentation().changes(images, parameters)
    assert all(map(torch.equal, augment.changes(images, parameters).values, dynamic.values))


def test_no_change_at_all_gives_equal_weights_not_none():
    assert torch.equal(dynamic_weights(torch.zeros(2, 4)), torch.full((2, 4), 0.25))
    shares = dynamic_weights(torch.tensor([[1e-30, 3e-30]]))
    torch.testing.assert_close(shares, torch.tensor([[0.25, 0.75]]))


@pytest.mark.parametrize("weighting", ["dynamic", "static"])
def test_images_without_anything_to_change_stay_as_they_are(weighting):
    images = torch.stack([torch.zeros(3, 64, 64), rand_images(3, 64, 64), torch.full((3, 64, 64), 0.005)])
    augment = LocalAugmentation(weighting=weighting, operations=OPERATIONS[:3])
    changed, masks = augment(images, torch.Generator().manual_seed(0))
    assert torch.equal(changed[[0, 2]], images[[0, 2]])
    assert masks.flatten(1).any(dim=1).tolist() == [False, True, False]


def test_a_plain_colour_changes_by_jitter_alone():
    images = torch.full((4, 3, 64, 64), 0.5)
    augment = LocalAugmentation()
    weights = augment.changes(images, draw(augment, images)).weights
    torch.testing.assert_close(weights, torch.tensor([0.0, 1.0, 0.0, 0.0]).expand(4, -1), atol=1e-6, rtol=0)
    still = LocalAugmentation(operations=("rotation", "permutation", "grayscale"))
    changed, masks = still(images)
    assert torch.equal(changed, images)
    assert not masks.any()


def test_places_are_redrawn_until_something_changes():
    # A textured object of a quarter of a black image.
    images = torch.zeros(64, 3, 64, 64)
    images[..., :32, :32] = rand_images(64, 3, 32, 32)
    still = LocalAugmentation(tries=1)(images, torch.Generator().manual_seed(0))[1].flatten(1).any(dim=1)
    often = LocalAugmentation(tries=20)(images, torch.Generator().manual_seed(0))[1].flatten(1).any(dim=1)
    assert 0.2 < still.float().mean() < 0.95
    assert often.all()
    augment = LocalAugmentation(tries=20)
    parameters = draw(augment, images)
    masks = augment.apply(images, parameters)[1]
    for i in range(len(images)):
        # The first place that overlaps with the object far enough; those before it do hardly.
        number = next(n for n in range(20) if masks[i, 0][rectangle(parameters, i, n)].sum() == masks[i].sum())
        for earlier in range(number):
            rows, cols = rectangle(parameters, i, earlier)
            assert max(0, 32 - rows.start) * max(0, 32 - cols.start) <= 0.4 * (rows.stop - rows.start) * (
                cols.stop - cols.start
            )


def test_rectangles_have_the_sizes_asked_for_and_are_scaled_with_the_image():
    for shape, low, high in (((500, 3, 256, 256), 50, 128), ((500, 3, 128, 192), 25, 64)):
        parameters = LocalAugmentation().sample(shape, generator=torch.Generator().manual_seed(0))
        for side, corner, whole in (("height", "top", shape[2]), ("width", "left", shape[3])):
            assert parameters[side].min() == low
            assert parameters[side].max() == high
            assert parameters[corner].min() == 0
            assert (parameters[corner] + parameters[side]).max() == whole
    pixels = LocalAugmentation(region=(10, 200), reference_size=None).sample((500, 3, 64, 96))
    assert pixels["height"].max() == 64
    assert pixels["width"].max() == 96


def test_no_cell_stays_and_every_order_occurs():
    parameters = LocalAugmentation().sample((2000, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    cells = parameters["cells"]
    assert (cells.sort(dim=1).values == torch.arange(4)).all()
    assert (cells != torch.arange(4)).all()
    assert len(cells.unique(dim=0)) == 6
    degrees = parameters["angle"] * 180 / math.pi
    assert degrees.min() >= 30
    assert degrees.max() <= 330


def test_parameters_replay_a_call():
    images = rand_images(5, 3, 64, 64)
    images[2] = 0
    augment = LocalAugmentation()
    parameters = draw(augment, images)
    changed, masks = augment.apply(images, parameters)
    again, again_masks = augment.apply(images, parameters)
    assert torch.equal(changed, again)
    assert torch.equal(masks, again_masks)
    torch.manual_seed(3)
    first = augment(images)[0]
    torch.manual_seed(3)
    assert torch.equal(augment(images)[0], first)


def test_masks_need_to_know_the_images():
    augment = LocalAugmentation()
    with pytest.raises(NotImplementedError, match="depends on the images"):
        augment.apply_to_masks(torch.zeros(1, 1, 64, 64), augment.sample((1, 3, 64, 64)))


def test_kornia_augments_and_replays_images():
    images = rand_images(6, 3, 64, 64)
    pipeline = AugmentationSequential(KorniaAugmentation(LocalAugmentation()), data_keys=["input"])
    changed = pipeline(images)
    assert (changed != images).flatten(1).any(dim=1).all()
    assert torch.equal(pipeline(images, params=pipeline._params), changed)


def test_grey_tensors_of_one_channel():
    images = rand_images(3, 1, 64, 64)
    changed, masks = LocalAugmentation()(images)
    assert changed.shape == images.shape
    assert masks.flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"region": (0, 10)}, "region"),
        ({"region": (20, 10)}, "region"),
        ({"reference_size": 0}, "reference_size"),
        ({"operations": ()}, "operations"),
        ({"operations": ("rotation", "rotation")}, "operations"),
        ({"operations": ("flip",)}, "operations"),
        ({"weighting": "softmax"}, "weighting"),
        ({"jitter": (0.1, 0.1)}, "jitter"),
        ({"jitter": (0.1, 0.1, 0.1, 0.6)}, "jitter"),
        ({"grid": 1}, "grid"),
        ({"min_change": -1}, "min_change"),
        ({"tries": 0}, "tries"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        LocalAugmentation(**arguments)


def test_images_too_small_for_the_grid_are_refused():
    with pytest.raises(ValueError, match="region must be at least grid=4"):
        LocalAugmentation(grid=4).sample((1, 3, 16, 16))
