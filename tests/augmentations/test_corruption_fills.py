# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What corrupted regions are filled with, each fill by itself, and how it is blended."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import LocalCorruption, shift_images
from anomalib_ssl.augmentations.corruption.blending import blend
from anomalib_ssl.augmentations.corruption.textures import find_textures, load_textures

PLAIN = {"p": 1.0, "opacity": (1.0, 1.0), "feather": (0.0, 0.0)}


def smooth_images(batch=12, channels=3, height=64, width=64, seed=0):
    """Something like photographs: smooth, with contrast everywhere."""
    coarse = torch.rand(batch, channels, 9, 9, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def corrupt(images, fill, seed=0, **arguments):
    augment = LocalCorruption(fills=[fill], **{**PLAIN, **arguments})
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(seed))
    return *augment.apply(images, parameters), parameters


def inside(images, masks):
    """Pixels (C, N) of each sample inside its mask."""
    return [image[:, mask[0]] for image, mask in zip(images, masks, strict=True)]


def test_flat_fills_have_one_colour_and_little_noise():
    images = torch.rand(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    result, masks, p = corrupt(images, "flat", area=(0.02, 0.25))
    for i, pixels in enumerate(inside(result, masks)):
        # Values near black or white are clipped, which lowers their spread.
        assert pixels.std(dim=1).max() < p["grain_strength"][i] * 1.25 + 1e-5
        assert (pixels.mean(dim=1) - p["color"][i]).abs().max() < 0.04
    assert p["grain_strength"].max() < 0.04
    assert p["color"].std(dim=0).min() > 0.15


def test_images_are_filled_from_another_place_or_image():
    images = smooth_images()
    result, masks, p = corrupt(images, "image", min_change=0.0)
    assert 0 < (p["source"] == 0).sum() < 12
    for i, pixels in enumerate(inside(result, masks)):
        j = (i + int(p["source"][i])) % 12
        shift = {name: p[name][i : i + 1] for name in ("shift_y", "shift_x")}
        assert torch.equal(pixels, shift_images(images[j : j + 1], shift)[0][:, masks[i, 0]])
        assert torch.isin(pixels, images[j]).all()
        assert 7 <= shift["shift_y"].abs() <= 33
    # A move by half the width and back again would be the same in both directions.
    assert p["shift_x"].unique().numel() > 8


def test_one_image_is_filled_from_itself():
    image = smooth_images(1)
    for seed in range(8):
        result, _, p = corrupt(image, "image", seed, min_change=0.0)
        assert p["source"].item() == 0
        assert torch.isin(result, image).all()
        assert not torch.equal(result, image)


def test_deformed_content_keeps_its_values_but_not_their_places():
    images = smooth_images(40, height=96, width=96)
    result, masks, _ = corrupt(images, "deform", min_change=0.0, area=(0.1, 0.25), axes=(0.15, 0.3))
    reach = F.max_pool2d(masks.float(), 21, 1, 10) > 0
    differences = []
    for before, after, near in zip(inside(images, masks), inside(result, masks), inside(images, reach), strict=True):
        assert (after.amin(dim=1) >= near.amin(dim=1) - 0.1).all()
        assert (after.amax(dim=1) <= near.amax(dim=1) + 0.1).all()
        quantiles = torch.linspace(0.1, 0.9, 9)
        differences.append((before.quantile(quantiles, dim=1) - after.quantile(quantiles, dim=1)).abs().mean())
    changed = ((result - images).abs() * masks).sum() / masks.sum() / 3
    assert torch.stack(differences).mean() < 0.5 * changed
    assert changed > 0.05


def test_noise_is_smooth_and_coloured():
    images = smooth_images(40, height=128, width=128)
    result, masks, p = corrupt(images, "noise", area=(0.05, 0.25), axes=(0.15, 0.3))
    both = masks[..., 1:] & masks[..., :-1]
    steps = (result.diff(dim=-1).abs() * both).sum() / both.sum() / 3
    assert steps < 0.03
    spread = torch.stack([pixels.std(dim=1).mean() for pixels in inside(result, masks)])
    assert spread.mean() > 0.08
    means = torch.stack([pixels.mean(dim=1) for pixels in inside(result, masks)])
    assert torch.corrcoef(torch.stack([means.flatten(), p["color"].flatten()]))[0, 1] > 0.8


@pytest.fixture
def textures(tmp_path):
    """A folder as the Describable Textures Dataset has it: red above, blue below, in two subfolders."""
    for name, mode, color in (("red/one.jpg", "RGB", (255, 0, 0)), ("blue/deep/two.PNG", "RGB", (0, 0, 255))):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (300, 200), color).save(path)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/list.txt").write_text("not an image")
    return tmp_path


def without_jitter(parameters):
    neutral = {name: torch.ones_like(parameters[name]) for name in ("brightness", "contrast", "saturation")}
    return {**parameters, **neutral, "hue": torch.zeros_like(parameters["hue"])}


def test_textures_come_from_the_folder(textures):
    images = torch.full((30, 3, 64, 64), 0.5)
    augment = LocalCorruption(fills=["texture"], textures=textures, **PLAIN)
    p = without_jitter(augment.sample(images.shape, generator=torch.Generator().manual_seed(0)))
    result, masks = augment.apply(images, p)
    # In alphabetical order.
    blue = p["texture"] == 0
    assert 5 < blue.sum() < 25
    for i, pixels in enumerate(inside(result, masks)):
        expected = torch.tensor([0.0, 0.0, 1.0] if blue[i] else [1.0, 0.0, 0.0])
        torch.testing.assert_close(pixels, expected.view(3, 1).expand_as(pixels), atol=0.01, rtol=0)


def test_textures_are_the_same_under_autocast(textures):
    augment = LocalCorruption(fills=["texture"], textures=textures, **PLAIN)
    images = smooth_images()
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
    expected, _ = augment.apply(images, parameters)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment.apply(images, parameters)[0], expected)


def test_textures_whatever_the_default_data_type(textures, double_by_default):
    images = smooth_images()
    double_by_default()
    result, masks, _ = corrupt(images, "texture", textures=textures)
    assert result.dtype == torch.float32
    assert masks.any()


def test_textures_are_jittered(textures):
    result, masks, _ = corrupt(torch.full((30, 3, 64, 64), 0.5), "texture", textures=textures)
    colors = torch.stack([pixels.mean(dim=1) for pixels in inside(result, masks)])
    assert (colors * 255).round().unique(dim=0).shape[0] > 25


def test_texture_crops_equal_cropping_and_resizing(tmp_path):
    side = 64
    gradient = np.linspace(0, 255, 256).astype(np.uint8)
    Image.fromarray(
        np.stack([*np.broadcast_arrays(gradient, gradient[:, None]), np.full((256, 256), 128)], -1).astype(np.uint8)
    ).save(tmp_path / "gradient.png")
    augment = LocalCorruption(fills=["texture"], textures=tmp_path, **PLAIN)
    shape = (20, 3, side, 2 * side)
    parameters = without_jitter(augment.sample(shape, generator=torch.Generator().manual_seed(0)))
    result, masks = augment.apply(torch.full(shape, 0.5), {**parameters, "min_change": torch.zeros(20)})
    x = (torch.arange(2 * side) + 0.5) / side - 1
    y = (torch.arange(side) + 0.5) / side * 2 - 1
    for i in range(20):
        # The crop has the image's aspect and lies inside the texture, which is at most twice as fine.
        width, height = parameters["crop_width"][i], parameters["crop_height"][i]
        torch.testing.assert_close(width, 2 * height)
        assert 0.5 <= width <= 1
        place_x, place_y = x * width + parameters["crop_x"][i], y * height + parameters["crop_y"][i]
        assert max(place_x.abs().max(), place_y.abs().max()) < 1
        expected_x, expected_y = ((place * 128 + 127.5) / 255 for place in (place_x, place_y))
        mask = masks[i, 0]
        torch.testing.assert_close(result[i, 0][mask], expected_x.expand(side, -1)[mask], atol=4e-3, rtol=0)
        torch.testing.assert_close(result[i, 1][mask], expected_y.view(-1, 1).expand(-1, 128)[mask], atol=4e-3, rtol=0)


def test_textures_of_grey_images(textures):
    augment = LocalCorruption(fills=["texture"], textures=textures, **PLAIN)
    images = torch.zeros(6, 1, 32, 32)
    result, masks = augment.apply(images, without_jitter(augment.sample(images.shape)))
    torch.testing.assert_close(result, masks / 3, atol=0.01, rtol=0)


def test_textures_are_read_once_and_spread_over_a_large_folder(textures, monkeypatch):
    assert load_textures(str(textures), torch.device("cpu")) is load_textures(str(textures), torch.device("cpu"))
    assert load_textures(str(textures), torch.device("cpu")).shape == (2, 3, 256, 256)
    for number in range(10):
        (textures / f"{number}.png").touch()
    monkeypatch.setattr("anomalib_ssl.augmentations.corruption.textures.MAX_TEXTURES", 4)
    assert [path.name for path in find_textures(textures)] == ["0.png", "3.png", "6.png", "9.png"]


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_flat_fills_that_would_not_show_are_replaced(value):
    images = torch.full((8, 3, 20, 20), value)
    weights = torch.zeros(8, 1, 20, 20)
    weights[..., 5:9, 5:9] = 1
    draws = torch.rand(8, 3, generator=torch.Generator().manual_seed(0))
    result = blend(images, images + 1e-3, weights, torch.full((8,), 0.2), draws, torch.full((8,), 0.02))
    change = (result - images).abs()[..., 5:9, 5:9]
    # At an opacity of 0.2, of a colour 0.2 or more away.
    assert change.min() >= 0.2 * 0.2 - 1e-5
    assert change.flatten(1).mean(dim=1).unique().numel() == 8
    assert torch.equal(result[..., 10:, :], images[..., 10:, :])
    assert result.min() >= 0
    assert result.max() <= 1


def test_opacity_is_raised_only_where_it_is_needed():
    images = torch.full((3, 1, 10, 10), 0.5)
    fills = images + torch.tensor([0.3, 0.05, 0.025]).view(-1, 1, 1, 1)
    weights, opacity = torch.ones(3, 1, 10, 10), torch.full((3,), 0.3)
    result = blend(images, fills, weights, opacity, torch.rand(3, 1), torch.full((3,), 0.02))
    change = (result - images).mean(dim=(1, 2, 3))
    expected = [0.3 * 0.3, 0.05 * (0.4 + 0.6 * 0.3), 0.025 * (0.8 + 0.2 * 0.3)]
    torch.testing.assert_close(change, torch.tensor(expected), atol=1e-4, rtol=0)


def test_feathered_pixels_are_blended_by_their_weight():
    images, fills = torch.zeros(1, 1, 1, 4), torch.ones(1, 1, 1, 4)
    weights = torch.tensor([0.0, 0.25, 0.5, 1.0]).view(1, 1, 1, 4)
    result = blend(images, fills, weights, torch.tensor([0.8]), torch.rand(1, 1), torch.tensor([0.02]))
    torch.testing.assert_close(result.flatten(), torch.tensor([0.0, 0.2, 0.4, 0.8]))
