# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Blended patches: the Poisson solver against exact ones and OpenCV, places on the object, soft labels."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.sparse
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from torch.nn import functional as F  # noqa: N812
from torchvision.io import ImageReadMode, read_image

from anomalib_ssl.augmentations import (
    BlendedPatch,
    KorniaAugmentation,
    blend_windows,
    logistic_labels,
    object_masks,
)
from anomalib_ssl.augmentations.blended_patch.laplace import solve_poisson
from anomalib_ssl.augmentations.blended_patch.outlines import OUTLINES

MARGIN = 8
BLENDS = [{"blend": "hard"}, {"blend": "soft"}, {"blend": "poisson"}, {"blend": "poisson", "gradients": "mixed"}]
every_blend = pytest.mark.parametrize("blend", BLENDS, ids=lambda blend: "-".join(blend.values()))


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def cloudy(count, side, seed=0):
    """Images with detail of all sizes, as photographs have."""
    layers = [
        F.interpolate(rand_images(count, 3, cells, cells, seed=seed + cells), size=(side, side), mode="bicubic")
        / weight
        for cells, weight in ((4, 1), (16, 3), (64, 12))
    ]
    images = sum(layers)
    return ((images - images.amin()) / (images.amax() - images.amin())).clamp(0, 1)


def draw(augment, shape, seed=0):
    return augment.sample(shape, generator=torch.Generator().manual_seed(seed))


def square_level(side, margin=MARGIN):
    """Level of a square of ``side`` pixels in the middle of its window."""
    size = side + 2 * margin
    distance = side / 2 - (torch.arange(size) + 0.5 - size / 2).abs()
    return torch.minimum(distance.unsqueeze(0), distance.unsqueeze(1)).view(1, 1, size, size)


def solve_exactly(values, known, source):
    """The five-point Poisson equation of one plane (H, W) by a sparse direct solver."""
    rows, columns = np.nonzero(~known)
    number = np.full(known.shape, -1)
    number[rows, columns] = np.arange(len(rows))
    matrix = scipy.sparse.lil_matrix((len(rows), len(rows)))
    right = -source[rows, columns].astype(np.float64)
    for n, (y, x) in enumerate(zip(rows, columns, strict=True)):
        matrix[n, n] = 4
        for y2, x2 in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if number[y2, x2] >= 0:
                matrix[n, number[y2, x2]] = -1
            else:
                right[n] += values[y2, x2]
    result = values.copy()
    result[rows, columns] = scipy.sparse.linalg.spsolve(matrix.tocsc(), right)
    return result


@pytest.mark.parametrize("with_source", [False, True])
def test_solver_equals_a_direct_one(with_source):
    values = cloudy(2, 40)[:, :1]
    down, across = torch.meshgrid(torch.arange(40) - 19.5, torch.arange(40) - 21.0, indexing="ij")
    known = torch.stack([(down.abs() > 14) | (across.abs() > 9), down.square() + across.square() > 190]).unsqueeze(1)
    source = cloudy(2, 40, seed=9)[:, :1] * 0.05 - 0.025 if with_source else None
    found = solve_poisson(values, known, source, sweeps=32)
    quick = solve_poisson(values, known, source)
    for row in range(2):
        plane = torch.zeros(40, 40) if source is None else source[row, 0]
        expected = torch.from_numpy(solve_exactly(values[row, 0].numpy(), known[row, 0].numpy(), plane.numpy()))
        free = ~known[row, 0]
        spread = values[row, 0][free].std()
        assert (found[row, 0] - expected)[free].abs().mean() < 0.02 * spread
        assert (quick[row, 0] - expected)[free].abs().mean() < 0.06 * spread
    assert torch.equal(found[known], values[known])


def test_solver_treats_samples_alike():
    values, known = cloudy(4, 33), rand_images(4, 1, 33, 33) > 0.4
    together = solve_poisson(values, known)
    for row in range(4):
        alone = solve_poisson(values[row : row + 1], known[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def photographs(count):
    """Pairs of images of a category (uint8, HWC), real ones where there are any."""
    root = os.environ.get("ANOMALIB_SSL_TEST_DATA")
    if root:
        files = sorted((Path(root) / "pill" / "train" / "good").glob("*.png"))[:count]
        return [read_image(str(file), ImageReadMode.RGB).permute(1, 2, 0).contiguous().numpy() for file in files]
    return list((cloudy(count, 256) * 255).byte().permute(0, 2, 3, 1).contiguous().numpy())


@pytest.mark.parametrize("side", [48, 96])
def test_poisson_blending_equals_opencv(side):
    images = photographs(5)
    random = np.random.default_rng(0)
    windows = []
    for number in range(4):
        top, left, source_top, source_left = random.integers(MARGIN, 256 - side - MARGIN, 4)
        patch = images[number + 1][source_top : source_top + side, source_left : source_left + side].copy()
        center = int(left + side // 2), int(top + side // 2)
        # A new mask each time: OpenCV erodes it in place.
        mask = np.full((side, side), 255, np.uint8)
        cloned = cv2.seamlessClone(patch, images[number], mask, center, cv2.NORMAL_CLONE)
        for image, y, x in (
            (images[number], top, left),
            (images[number + 1], source_top, source_left),
            (cloned, top, left),
        ):
            window = image[y - MARGIN : y + side + MARGIN, x - MARGIN : x + side + MARGIN]
            windows.append(torch.from_numpy(window.copy()).permute(2, 0, 1) / 255)
    target, source, expected = torch.stack(windows).unflatten(0, (4, 3)).unbind(1)
    level = square_level(side).expand(4, -1, -1, -1)
    inside = (level > 0).expand_as(target)
    # In grey levels; on photographs of pills a hard paste is 50 to 80 away, this blend 2 to 3.
    difference = 255 * (blend_windows(target, source, level) - expected).abs()[inside].mean()
    hard = 255 * (blend_windows(target, source, level, "hard") - expected).abs()[inside].mean()
    assert difference < 6
    assert difference < 0.25 * hard


def test_mixed_gradients_keep_the_stronger_ones():
    level = square_level(40).expand(2, -1, -1, -1)
    detail, flat = cloudy(2, 56), torch.full((2, 3, 56, 56), 0.5)
    kept = blend_windows(detail, flat, level, "poisson", "mixed")
    torch.testing.assert_close(kept, detail, atol=1e-6, rtol=0)
    brought = blend_windows(flat, 0.4 + 0.2 * detail, level, "poisson", "mixed")
    middle = (slice(None), slice(None), slice(16, 40), slice(16, 40))
    expected = (0.4 + 0.2 * detail)[middle].diff(dim=3)
    assert (brought[middle].diff(dim=3) - expected).abs().mean() < 0.2 * expected.abs().mean()
    # Where gradients of the source alone would wipe out what the image shows, mixed ones leave it.
    source_only = blend_windows(detail, flat, level, "poisson", "source")
    assert source_only[middle].diff(dim=3).abs().mean() < 0.5 * detail[middle].diff(dim=3).abs().mean()


@pytest.mark.parametrize("gradients", ["source", "mixed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_enough_to_hold_what_is_blended(gradients, dtype):
    level = square_level(40).expand(2, -1, -1, -1)
    target, source = cloudy(2, 56).to(dtype), cloudy(2, 56).flip(0).to(dtype)
    blended = blend_windows(target, source, level, "poisson", gradients)
    assert blended.dtype == dtype
    expected = blend_windows(target.float(), source.float(), level, "poisson", gradients)
    torch.testing.assert_close(blended, expected.to(dtype))


@pytest.mark.parametrize("names", [("linear", "source"), ("poisson", "both")])
def test_unknown_ways_of_blending_are_named(names):
    with pytest.raises(ValueError, match=r"(blend|gradients) must be one of .*got '(linear|both)'"):
        blend_windows(cloudy(1, 16), cloudy(1, 16), torch.ones(1, 1, 16, 16), *names)


def test_nobody_finds_a_blended_patch_by_its_border():
    """The step along the outline, above that of the image's own pixels, is gone with Poisson blending."""
    images = cloudy(8, 96)
    target, source = images, (images.roll(1, 0) * 0.6 + 0.3).clamp(0, 1)
    level = square_level(80).expand(8, -1, -1, -1)

    def step(result):
        return (result[:, :, 9:87, 8] - result[:, :, 9:87, 7]).abs().mean()

    own = step(target)
    assert step(blend_windows(target, source, level, "hard")) > 3 * own
    for blend in BLENDS[1:]:
        assert step(blend_windows(target, source, level, **blend)) < 1.5 * own


@every_blend
@pytest.mark.parametrize("shape", [(6, 3, 64, 64), (3, 1, 40, 90), (1, 3, 97, 33), (2, 3, 16, 16), (2, 3, 200, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_pixels_outside_the_mask_keep_every_bit(blend, shape, dtype):
    images = rand_images(*shape)
    if dtype == torch.uint8:
        images = (images * 255).byte()
    for seed in range(3):
        before = images.clone()
        augment = BlendedPatch(outlines=OUTLINES, **blend)
        result, masks = augment(images, torch.Generator().manual_seed(seed))
        assert torch.equal(images, before)
        assert (result.dtype, result.shape) == (dtype, images.shape)
        assert (masks.dtype, masks.shape) == (torch.bool, (shape[0], 1, *shape[2:]))
        assert masks.flatten(1).any(dim=1).all()
        assert torch.equal(torch.where(masks, images, result), images)
        assert (result != images).any()
        assert result.min() >= 0
        assert result.max() <= (255 if dtype == torch.uint8 else 1)


@every_blend
def test_formats_of_images_change_nothing(blend):
    images = (cloudy(5, 80) * 255).byte()
    augment = BlendedPatch(outlines=OUTLINES, **blend)
    parameters = draw(augment, images.shape)
    expected, masks = augment.apply(images, parameters)
    floats, float_masks = augment.apply(images / 255, parameters)
    assert torch.equal(masks, float_masks)
    # Rounded once, though patches are blended into patches.
    assert (expected - 255 * floats).abs().max() < 0.51
    rows = augment.apply(images.contiguous(memory_format=torch.channels_last), parameters)[0]
    assert rows.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(rows, expected)
    padded = F.pad(images, (3, 4, 1, 2))[:, :, 1:-2, 3:-4]
    assert torch.equal(augment.apply(padded, parameters)[0], expected)
    halves, _ = augment.apply((images / 255).half(), parameters)
    assert halves.dtype == torch.float16
    assert (halves.float() - floats).abs().mean() < 0.002


def test_patches_come_from_another_image():
    images = torch.arange(1, 6).view(5, 1, 1, 1).expand(5, 3, 64, 64) / 10
    for seed in range(5):
        result, masks = BlendedPatch(blend="hard", patches=1)(images, torch.Generator().manual_seed(seed))
        for image, blended, mask in zip(images, result, masks, strict=True):
            (value,) = blended[mask.expand_as(blended)].unique().tolist()
            assert value != image[0, 0, 0]
            assert any(abs(value - n / 10) < 1e-6 for n in range(1, 6))
    same, _ = BlendedPatch(blend="hard", source="same")(images, torch.Generator().manual_seed(0))
    torch.testing.assert_close(same, images, atol=1e-6, rtol=0)


def test_a_patch_without_resizing_is_an_exact_copy():
    images = rand_images(4, 3, 64, 64)
    augment = BlendedPatch(blend="hard", patches=1, resize=(1, 1))
    parameters = draw(augment, images.shape)
    result, masks = augment.apply(images, parameters)
    for row in range(4):
        source = images[(row + int(parameters["image"][row, 0])) % 4]
        height, width = (int(parameters[name][row, 0]) for name in ("height", "width"))
        patch = result[row][masks[row].expand(3, -1, -1)].view(3, height, width)
        # What the image's rounded height asks for may be half a pixel off where the side was limited by the image.
        places = F.unfold(source.unsqueeze(0), (height, width)) - patch.flatten().view(1, -1, 1)
        assert places.abs().amax(dim=1).amin() < 1e-5


def test_sides_follow_the_gamma_distribution():
    parameters = draw(BlendedPatch(resize=(1, 1), patches=1), (20_000, 3, 1000, 1000))
    side = parameters["height"].flatten() / 1000
    assert 0.06 <= side.min() < 0.065
    assert side.max() <= 0.8
    # Quantiles of 0.06 + Gamma(2, 0.1): 0.06 + 0.1 * (0.961, 1.678, 2.693).
    for share, expected in ((0.25, 0.156), (0.5, 0.228), (0.75, 0.329)):
        assert side.quantile(share) == pytest.approx(expected, abs=0.006)


def test_the_first_patch_is_always_there_and_each_further_one_in_half_of_the_images():
    used = draw(BlendedPatch(patches=4), (4000, 3, 32, 32))["used"]
    assert used[:, 0].all()
    assert used[:, 1:].float().mean(dim=0).tolist() == pytest.approx([0.5] * 3, abs=0.05)


def plates(count=16, side=96):
    """A dark plate before a bright background, and where it is."""
    images = torch.full((count, 3, side, side), 0.9)
    down, across = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    plate = (down - 40).square() + (across - 50).square() < 24**2
    return torch.where(plate, 0.2 + 0.2 * rand_images(count, 3, side, side), images), plate.view(1, 1, side, side)


def test_object_masks_show_the_object():
    images, plate = plates()
    masks = object_masks(images, background=0.9, threshold=0.2)
    assert ((masks & plate).sum((1, 2, 3)) / (masks | plate).sum((1, 2, 3))).min() > 0.97


def test_patches_lie_on_the_object():
    images, _ = plates()
    objects = object_masks(images, 0.9, 0.2)
    with_mask = {"background": 0.9, "threshold": 0.2, "height": (0.06, 0.3), "width": (0.06, 0.3), "patches": 1}
    shares = []
    for seed in range(8):
        augment = BlendedPatch(blend="hard", resize=(1, 1), coverage=0.7, overlap=0.6, **with_mask)
        result, masks = augment(images, torch.Generator().manual_seed(seed))
        share = (masks & objects).sum((1, 2, 3)) / masks.sum((1, 2, 3))
        shares.append(share[masks.flatten(1).any(dim=1)])
        # What was pasted is of the object, which is darker than 0.4, to the given share.
        dark = ((result.amax(dim=1, keepdim=True) < 0.5) & masks).sum((1, 2, 3)) / masks.sum((1, 2, 3))
        assert (dark[masks.flatten(1).any(dim=1)] >= 0.68).all()
    shares = torch.cat(shares)
    assert len(shares) > 100
    assert shares.min() >= 0.6
    anywhere = BlendedPatch(blend="hard", patches=1)(images, torch.Generator().manual_seed(0))[1]
    assert ((anywhere & objects).sum((1, 2, 3)) / anywhere.sum((1, 2, 3))).min() < 0.3


def test_without_an_object_nothing_is_blended():
    images = torch.full((4, 3, 32, 32), 0.9)
    result, masks = BlendedPatch(background=0.9)(images, torch.Generator().manual_seed(0))
    assert torch.equal(result, images)
    assert not masks.any()


def test_a_patch_looks_the_same_in_any_batch():
    images = cloudy(6, 96)
    augment = BlendedPatch(source="same", outlines=OUTLINES)
    parameters = draw(augment, images.shape)
    together, masks = augment.apply(images, parameters)
    for row in range(6):
        own = {name: value[row : row + 1] for name, value in parameters.items()}
        result, mask = augment.apply(images[row : row + 1], own)
        torch.testing.assert_close(result[0], together[row], atol=1e-5, rtol=0)
        assert torch.equal(mask[0], masks[row])


@pytest.mark.parametrize("outline", OUTLINES)
def test_outlines_fill_their_rectangles(outline):
    augment = BlendedPatch(outlines=[outline], patches=1)
    parameters = draw(augment, (64, 3, 128, 128))
    area = augment.apply(rand_images(64, 3, 128, 128), parameters)[1].sum((1, 2, 3))
    share = (area / (parameters["height"] * parameters["width"]).flatten())[parameters["height"].flatten() > 16]
    low, high = {"rectangle": (1, 1), "ellipse": (0.7, 0.87), "blob": (0.15, 0.6)}[outline]
    assert low <= share.min()
    assert share.max() <= high


def test_labels_rise_with_the_change():
    before = torch.full((1, 3, 32, 32), 0.2)
    change = torch.linspace(0, 60, 24).view(1, 1, 1, 24) / 255
    after = before.clone()
    after[..., 4:28, 4:28] += change
    masks = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    masks[..., 4:28, 4:28] = True
    labels = logistic_labels(before, after, masks, 1 / 6, 15)
    assert (labels[~masks] == 0).all()
    row = labels[0, 0, 16, 6:26]
    assert (row.diff() >= 0).all()
    expected = torch.sigmoid((255 * change.flatten() - 15) / 6)[2:22]
    torch.testing.assert_close(row[1:-1], expected[1:-1], atol=1e-3, rtol=0)
    assert (logistic_labels(before, before, masks) == 0).all()


def test_existing_masks_grow_by_what_is_blended():
    augment = BlendedPatch()
    parameters = draw(augment, (6, 3, 48, 48))
    _, written = augment.apply(rand_images(6, 3, 48, 48), parameters)
    masks = rand_images(6, 1, 48, 48, seed=1) > 0.9
    assert torch.equal(augment.apply_to_masks(masks, parameters), masks | written)
    with pytest.raises(ValueError, match="background must be None"):
        BlendedPatch(background=0.1).apply_to_masks(masks, parameters)


def test_inside_kornia():
    images = rand_images(12, 3, 48, 48)
    pipeline = AugmentationSequential(
        KorniaAugmentation(BlendedPatch(), p=0.5), RandomHorizontalFlip(p=1.0), data_keys=["input", "mask"]
    )
    torch.manual_seed(0)
    first = pipeline(images, torch.zeros(12, 1, 48, 48))
    second = pipeline(images, torch.zeros(12, 1, 48, 48), params=pipeline._params)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    unchanged = (first[1] == 0).expand_as(images)
    assert torch.equal(first[0][unchanged], images.flip(-1)[unchanged])
    assert 2 < first[1].flatten(1).any(dim=1).sum() < 10


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"patches": 0}, "patches must"),
        ({"height": (0.5, 0.2)}, "height must"),
        ({"width": (0.0, 0.2)}, "width must"),
        ({"resize": (0.0, 1.0)}, "resize must"),
        ({"outlines": ["star"]}, "outlines .*star"),
        ({"outlines": []}, "outlines"),
        ({"source": "web"}, "source .*web"),
        ({"blend": "magic"}, "blend .*magic"),
        ({"gradients": "target"}, "gradients .*target"),
        ({"background": 200}, "background must"),
        ({"threshold": 60}, "threshold must"),
        ({"coverage": 1.1}, "coverage must"),
        ({"overlap": -0.1}, "overlap must"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        BlendedPatch(**arguments)


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="sides of at least 16 pixels"):
        BlendedPatch()(torch.zeros(2, 3, 15, 64))


def test_patches_may_be_limited_to_half_the_sides_they_are_cut_out_with():
    """As in the authors' code, whose limits are of half a side before resizing and of a whole one after."""
    limits = {"height": (0.06, 0.8), "width": (0.06, 0.24)}
    for shrink in (1.0, 0.5):
        parameters = BlendedPatch(shrink=shrink, **limits).sample(
            (4000, 3, 256, 256), generator=torch.Generator().manual_seed(0)
        )
        for name, (low, high) in limits.items():
            sides = parameters[name] / 256
            assert sides.min() >= shrink * low - 0.003
            assert shrink * high * 0.97 <= sides.max() <= shrink * high + 0.003
    with pytest.raises(ValueError, match="shrink must lie in"):
        BlendedPatch(shrink=1.5)
