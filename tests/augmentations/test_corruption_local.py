# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local corruption as a whole: what it promises for any image."""

import pytest
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from PIL import Image

from anomalib_ssl.augmentations import KorniaAugmentation, LocalCorruption
from anomalib_ssl.augmentations.corruption.fills import FILLS
from anomalib_ssl.augmentations.corruption.shapes import SHAPES
from anomalib_ssl.commands.preview import available_augmentations

CONSTANT = {"black": 0.0, "grey": 0.5, "dark": 0.1, "white": 1.0}


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def rand_bytes(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def draw(augment, shape, seed=0):
    return augment.sample(shape, generator=torch.Generator().manual_seed(seed))


def mean_change(result, images, masks):
    return ((result.double() - images.double()).abs() * masks).sum(dim=(1, 2, 3)) / (masks.sum((1, 2, 3)) * 3)


@pytest.mark.parametrize("shape", [(16, 3, 64, 64), (5, 1, 40, 90), (3, 3, 97, 33), (1, 3, 16, 16), (2, 3, 200, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_pixels_outside_the_mask_keep_every_bit(shape, dtype):
    images = rand_bytes(*shape) if dtype == torch.uint8 else rand_images(*shape) * 1.2 - 0.1
    for seed in range(5):
        before = images.clone()
        result, masks = LocalCorruption(p=1.0)(images, torch.Generator().manual_seed(seed))
        assert torch.equal(images, before)
        assert result.dtype == dtype
        assert result.shape == images.shape
        assert masks.dtype == torch.bool
        assert masks.shape == (shape[0], 1, *shape[2:])
        assert masks.flatten(1).any(dim=1).all()
        assert torch.equal(torch.where(masks, images, result), images)
        written = result[masks.expand_as(result)]
        assert written.min() >= 0
        assert written.max() <= (255 if dtype == torch.uint8 else 1)


@pytest.mark.parametrize("side", [16, 64, 100])
def test_areas_keep_their_limits(side):
    augment = LocalCorruption(p=1.0)
    blank = torch.zeros(100, 1, side, side)
    share = torch.cat([augment.apply_to_masks(blank, draw(augment, blank.shape, seed)) for seed in range(4)])
    share = share.mean(dim=(1, 2, 3))
    assert share.min() >= max(0.002, 1 / side**2)
    assert share.max() <= 0.25
    # Neither limit is where most regions lie.
    assert 0.02 < share.median() < 0.1
    assert (share < 0.0025).float().mean() < 0.05
    assert (share > 0.24).float().mean() < 0.1


@pytest.mark.parametrize("fill", ["all", "image", "deform", "flat", "noise"])
@pytest.mark.parametrize("value", CONSTANT.values(), ids=CONSTANT)
def test_every_corruption_shows_even_on_constant_images(fill, value):
    augment = LocalCorruption(p=1.0, fills=None if fill == "all" else [fill])
    images = torch.full((64, 3, 48, 48), value)
    result, masks = augment(images, torch.Generator().manual_seed(0))
    assert mean_change(result, images, masks).min() >= 0.02
    result, masks = augment((images * 255).round().byte(), torch.Generator().manual_seed(0))
    # Rounding moves a value by half a level.
    assert mean_change(result, (images * 255).round(), masks).min() >= 0.02 * 255 - 0.5


def test_every_corruption_shows_on_textured_and_tiny_images():
    for shape in ((64, 3, 48, 48), (64, 3, 16, 16), (1, 3, 32, 32)):
        images = 0.5 + 0.02 * rand_images(*shape)
        for seed in range(3):
            result, masks = LocalCorruption(p=1.0, opacity=(0.01, 0.05))(images, torch.Generator().manual_seed(seed))
            assert mean_change(result, images, masks).min() >= 0.02


def test_probability():
    images = rand_images(400, 3, 16, 16)
    result, masks = LocalCorruption(p=0.0)(images)
    assert torch.equal(result, images)
    assert not masks.any()
    result, masks = LocalCorruption(p=0.7)(images, torch.Generator().manual_seed(0))
    corrupted = masks.flatten(1).any(dim=1)
    assert abs(corrupted.float().mean() - 0.7) < 0.07
    assert torch.equal((result != images).flatten(1).any(dim=1), corrupted)


def test_parameters_replay_the_call():
    images = rand_images(6, 3, 48, 48)
    augment = LocalCorruption()
    parameters = draw(augment, images.shape)
    before = {name: value.clone() for name, value in parameters.items()}
    first, second = augment.apply(images, parameters), augment.apply(images, parameters)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert all(torch.equal(parameters[name], value) for name, value in before.items())
    # Another instance replays them too, even one that would itself draw something else.
    other = LocalCorruption(p=0.1, fills=["flat"], area=(0.3, 0.5), opacity=(0.9, 1.0), min_change=0.05)
    assert torch.equal(other.apply(images, parameters)[0], first[0])


def test_seed_decides():
    images = rand_images(6, 3, 48, 48)
    augment = LocalCorruption()
    draws = [augment(images, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(5)
    first = augment(images)[0]
    torch.manual_seed(5)
    assert torch.equal(augment(images)[0], first)


def test_every_sample_is_drawn_for_itself():
    images = torch.zeros(32, 3, 48, 48)
    result, masks = LocalCorruption(p=1.0)(images, torch.Generator().manual_seed(0))
    assert masks.flatten(1).unique(dim=0).shape[0] == 32
    assert result.flatten(1).unique(dim=0).shape[0] == 32


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        (None, {"image": 0.25, "deform": 0.25, "flat": 0.25, "noise": 0.25}),
        (["flat", "image"], {"flat": 0.5, "image": 0.5}),
        ({"flat": 3, "noise": 1, "deform": 0}, {"flat": 0.75, "noise": 0.25}),
    ],
)
def test_fills_are_drawn_by_their_weights(fills, expected):
    augment = LocalCorruption(fills=fills)
    assert augment.fill_weights == pytest.approx(expected)
    drawn = draw(augment, (4000, 3, 16, 16))["fill"]
    for number, name in enumerate(FILLS):
        assert abs((drawn == number).float().mean() - expected.get(name, 0)) < 0.03


def test_draws_are_independent():
    p = draw(LocalCorruption(), (3000, 3, 16, 16))
    table = torch.stack([
        p["corrupted"], p["opacity"], p["feather"], p["fill"], p["regions"], p["outline"][:, 0], p["center_y"][:, 0],
        p["center_x"][:, 0], p["angle"][:, 0], p["source"] == 0, p["shift_y"], p["outline_sigma"], p["color"][:, 0],
    ]).double()  # fmt: skip
    correlation = torch.corrcoef(table) - torch.eye(len(table))
    assert correlation.abs().max() < 0.08


def test_feather_scales_with_the_image():
    for side, expected in ((256, 3.0), (64, 0.75)):
        feather = draw(LocalCorruption(), (2000, 3, side, side))["feather"]
        assert 0 <= feather.min() < 0.01 * expected
        assert 0.99 * expected < feather.max() <= expected
    assert draw(LocalCorruption(reference_size=None), (2000, 3, 64, 64))["feather"].max() > 2.9


def test_edges_are_feathered():
    augment = LocalCorruption(p=1.0, fills=["flat"], shapes=["ellipse"], opacity=(1.0, 1.0), feather=(6.0, 6.0))
    images = torch.zeros(8, 3, 128, 128)
    parameters = draw(augment, images.shape)
    parameters["color"].fill_(1.0)
    parameters["grain"].zero_()
    result, masks = augment.apply(images, parameters)
    weights = result[:, :1][masks]
    # A quarter at the outermost pixel, and every weight up to 1 on a ramp of 3 pixels.
    assert weights.min() == 0.25
    assert weights.max() == 1
    assert 0.05 < ((weights > 0.3) & (weights < 0.95)).float().mean() < 0.5


def test_bytes_give_what_floats_give():
    images = rand_bytes(12, 3, 64, 64)
    augment = LocalCorruption(p=1.0)
    parameters = draw(augment, images.shape)
    result, masks = augment.apply(images, parameters)
    expected, expected_masks = augment.apply(images / 255, parameters)
    assert torch.equal(masks, expected_masks)
    assert (result - expected * 255).abs().max() <= 0.501


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_channels_last_is_kept_and_changes_nothing(dtype):
    images = rand_bytes(6, 3, 48, 64) if dtype == torch.uint8 else rand_images(6, 3, 48, 64)
    augment = LocalCorruption()
    parameters = draw(augment, images.shape)
    expected, expected_masks = augment.apply(images, parameters)
    result, masks = augment.apply(images.contiguous(memory_format=torch.channels_last), parameters)
    assert expected.is_contiguous()
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=0)
    assert torch.equal(masks, expected_masks)


def test_any_strides_are_read():
    images = rand_images(6, 3, 80, 80)[:, :, 3:67, 9:73]
    parameters = draw(LocalCorruption(), images.shape)
    expected, _ = LocalCorruption().apply(images.contiguous(), parameters)
    assert torch.equal(LocalCorruption().apply(images, parameters)[0], expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_dtype(dtype):
    images = rand_images(8, 3, 32, 32).to(dtype)
    result, masks = LocalCorruption(p=1.0)(images)
    assert result.dtype == dtype
    assert torch.equal(torch.where(masks, images, result), images)


def test_one_image_alone_gives_the_same():
    # Batches are worked on in blocks; where these end must not show. Other images are no fill here.
    images = rand_images(5, 3, 260, 260)
    augment = LocalCorruption(fills=["deform", "flat", "noise"])
    parameters = draw(augment, images.shape)
    together, masks = augment.apply(images, parameters)
    for i in range(len(images)):
        own = {name: value[i : i + 1] if len(value) == len(images) else value for name, value in parameters.items()}
        result, mask = augment.apply(images[i : i + 1], own)
        torch.testing.assert_close(result[0], together[i], atol=1e-5, rtol=0)
        assert (mask[0] != masks[i]).float().mean() < 1e-4


def test_existing_masks_grow_by_what_is_corrupted():
    augment = LocalCorruption(p=0.6)
    parameters = draw(augment, (12, 3, 48, 48))
    _, written = augment.apply(rand_images(12, 3, 48, 48), parameters)
    masks = rand_images(12, 1, 48, 48, seed=1) > 0.9
    assert torch.equal(augment.apply_to_masks(masks, parameters), masks | written)
    assert torch.equal(augment.apply_to_masks(masks.float(), parameters), (masks | written).float())


def test_inside_kornia():
    images = rand_images(12, 3, 48, 48)
    pipeline = AugmentationSequential(
        KorniaAugmentation(LocalCorruption(), p=0.5), RandomHorizontalFlip(p=1.0), data_keys=["input", "mask"]
    )
    torch.manual_seed(0)
    first = pipeline(images, torch.zeros(12, 1, 48, 48))
    second = pipeline(images, torch.zeros(12, 1, 48, 48), params=pipeline._params)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    unchanged = (first[1] == 0).expand_as(images)
    assert torch.equal(first[0][unchanged], images.flip(-1)[unchanged])
    touched = first[1].flatten(1).any(dim=1)
    assert 2 < touched.sum() < 10


@pytest.mark.parametrize("shapes", [[name] for name in SHAPES])
def test_single_kinds_of_shapes(shapes):
    augment = LocalCorruption(p=1.0, shapes=shapes, regions=(2, 2))
    parameters = draw(augment, (50, 3, 64, 64))
    assert (parameters["outline"] == SHAPES.index(shapes[0])).all()
    assert (parameters["regions"] == 2).all()
    share = augment.apply(rand_images(50, 3, 64, 64), parameters)[1].float().mean(dim=(1, 2, 3))
    assert (share.median() < 0.06) == (shapes == ["stroke"])


def test_preview_knows_it():
    assert available_augmentations()["LocalCorruption"] is LocalCorruption


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"p": 1.5}, "p must"),
        ({"fills": ["paint"]}, "fills .*paint"),
        ({"fills": []}, "fills"),
        ({"fills": {"flat": 0.0}}, "fills"),
        ({"fills": {"flat": -1.0}}, r"fills\['flat'\]"),
        ({"fills": ["texture"]}, "'texture' needs a folder .*textures is None"),
        ({"shapes": ["star"]}, "shapes .*star"),
        ({"shapes": []}, "shapes"),
        ({"regions": (0, 2)}, "regions"),
        ({"axes": (0.2, 0.1)}, "axes"),
        ({"displacement": (0.0, 0.5)}, "displacement"),
        ({"area": (-0.1, 0.2)}, "area"),
        ({"area": (0.1, 1.5)}, "area"),
        ({"feather": (-1.0, 1.0)}, "feather"),
        ({"reference_size": 0}, "reference_size"),
        ({"opacity": (0.0, 1.0)}, "opacity"),
        ({"opacity": (0.5, 1.1)}, "opacity"),
        ({"min_change": 0.2}, "min_change"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        LocalCorruption(**arguments)


def test_missing_and_empty_texture_folders_are_named_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"textures: there is no folder .*nowhere"):
        LocalCorruption(textures=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="textures: no images"):
        LocalCorruption(textures=tmp_path)


def test_bad_images_are_named():
    with pytest.raises(ValueError, match="images must have sides of at least 16 pixels"):
        LocalCorruption()(torch.zeros(2, 3, 15, 64))
    with pytest.raises(TypeError, match="images"):
        LocalCorruption()(torch.zeros(2, 3, 32, 32, dtype=torch.int32))


def test_replaying_textures_needs_their_folder(tmp_path):
    Image.new("RGB", (32, 32), (200, 0, 0)).save(tmp_path / "one.png")
    augment = LocalCorruption(fills=["texture"], textures=tmp_path)
    parameters = draw(augment, (2, 3, 32, 32))
    with pytest.raises(ValueError, match="textures must name the folder"):
        LocalCorruption().apply(torch.zeros(2, 3, 32, 32), parameters)
