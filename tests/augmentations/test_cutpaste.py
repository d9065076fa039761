# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste against a per-image reference, its ranges and its invariants."""

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from anomalib_ssl.augmentations import CutPaste
from anomalib_ssl.augmentations.color_jitter import OPERATIONS


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def reference_jitter(patch, parameters, index):
    adjust = dict(
        zip(OPERATIONS, (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue), strict=True)
    )
    for operation in parameters["order"].flatten().tolist() if "order" in parameters else []:
        name = OPERATIONS[operation]
        patch = adjust[name](patch, parameters[name][index].item())
    return patch


def reference_cut_paste(images, parameters):
    """Crop, jitter and paste one image after the other, as with an image library."""
    results, masks = images.clone(), torch.zeros_like(images[:, :1], dtype=torch.bool)
    for i, image in enumerate(images):
        get = {name: int(value[i]) for name, value in parameters.items() if name.endswith(("th", "ht", "top", "left"))}
        top, left, height, width = get["source_top"], get["source_left"], get["height"], get["width"]
        patch = reference_jitter(image[:, top : top + height, left : left + width], parameters, i)
        top, left = get["target_top"], get["target_left"]
        results[i, :, top : top + height, left : left + width] = patch
        masks[i, :, top : top + height, left : left + width] = True
    return results, masks


@pytest.mark.parametrize("jitter", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(16, 3, 48, 48), (8, 3, 40, 96), (3, 3, 97, 31)])
def test_equals_per_image_reference(shape, jitter):
    images = rand_images(*shape)
    augment = CutPaste(jitter=jitter)
    for seed in range(5):
        parameters = augment.sample(shape, generator=torch.Generator().manual_seed(seed))
        result, masks = augment.apply(images, parameters)
        expected, expected_masks = reference_cut_paste(images, parameters)
        assert torch.equal(masks, expected_masks)
        torch.testing.assert_close(result, expected, atol=2e-6, rtol=0)
        assert torch.equal(result[~masks.expand_as(result)], images[~masks.expand_as(images)])


def test_grey_images_are_jittered_like_the_reference():
    images = rand_images(8, 1, 64, 64)
    augment = CutPaste(jitter=0.3)
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
    result, _ = augment.apply(images, parameters)
    expected, _ = reference_cut_paste(images.expand(-1, 3, -1, -1).clone(), parameters)
    torch.testing.assert_close(result, expected[:, :1], atol=1e-4, rtol=0)


def test_any_number_of_channels():
    images = rand_images(4, 7, 32, 32)
    result, masks = CutPaste()(images)
    assert result.shape == images.shape
    assert torch.equal(result[~masks.expand_as(result)], images[~masks.expand_as(images)])


def test_sizes_keep_to_their_ranges():
    side = 512
    p = CutPaste().sample((10_000, 3, side, side), generator=torch.Generator().manual_seed(0))
    height, width = p["height"].double(), p["width"].double()
    # Rounding either side by half a pixel moves area and aspect by about one part in the side.
    area, aspect = height * width / side**2, width / height
    assert 0.0195 < area.min() < 0.025
    assert 0.145 < area.max() < 0.1525
    assert 0.29 < aspect.min() < 0.33
    assert 3.2 < aspect.max() < 3.37
    assert abs(area.mean() - 0.085) < 0.002
    assert abs((aspect < 1).double().mean() - 0.5) < 0.02
    for place in ("source", "target"):
        assert p[f"{place}_top"].min() == 0
        assert (p[f"{place}_top"] + p["height"]).max() == side
        assert p[f"{place}_left"].min() == 0
        assert (p[f"{place}_left"] + p["width"]).max() == side


@pytest.mark.parametrize("size", [(128, 1024), (1024, 128), (100, 300)])
def test_areas_of_oblong_images_are_as_uniform(size):
    p = CutPaste(area=(0.05, 0.6)).sample((10_000, 3, *size), generator=torch.Generator().manual_seed(0))
    area = (p["height"] * p["width"]).double() / (size[0] * size[1])
    assert 0.049 < area.min() < 0.055
    assert 0.59 < area.max() < 0.605
    assert abs(area.mean() - 0.325) < 0.005
    assert (p["height"] * p["width"]).max() <= p["max_pixels"]


def test_source_and_target_are_independent():
    p = CutPaste().sample((10_000, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    free = (256 - p["height"]).double()
    pair = torch.stack([p["source_top"] / free, p["target_top"] / free])
    assert abs(torch.corrcoef(pair)[0, 1]) < 0.03


def test_parameters_replay_the_call():
    images = rand_images(8, 3, 64, 64)
    augment = CutPaste()
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(3))
    first, second = augment.apply(images, parameters), augment.apply(images, parameters)
    assert torch.equal(first[0], second[0])
    # Another instance replays them too, even one that would itself draw smaller patches.
    assert torch.equal(CutPaste(area=(0.02, 0.03), jitter=0.0).apply(images, parameters)[0], first[0])


def test_seed_decides():
    images = rand_images(8, 3, 64, 64)
    augment = CutPaste()
    draws = [augment(images, torch.Generator().manual_seed(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.manual_seed(5)
    first = augment(images)[0]
    torch.manual_seed(5)
    assert torch.equal(augment(images)[0], first)


def test_input_is_left_alone():
    images = rand_images(4, 3, 64, 64)
    before = images.clone()
    CutPaste()(images)
    assert torch.equal(images, before)


def test_whole_image_patch_and_tiny_images():
    images = rand_images(4, 3, 8, 8)
    result, masks = CutPaste(area=(1.0, 1.0), aspect=((1.0, 1.0), (1.0, 1.0)), jitter=0.0)(images)
    assert masks.all()
    assert torch.equal(result, images)
    tiny = rand_images(4, 3, 1, 1)
    assert CutPaste(jitter=0.0)(tiny)[1].all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_dtype(dtype):
    images = rand_images(4, 3, 32, 32).to(dtype)
    assert CutPaste()(images)[0].dtype == dtype


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"area": (0.2, 0.1)}, "area"),
        ({"area": (0.0, 0.1)}, "area"),
        ({"area": (0.1, 1.5)}, "area"),
        ({"area": (0.1,)}, "area"),
        ({"aspect": ((0.0, 1.0), (1.0, 3.3))}, "aspect"),
        ({"aspect": ((1.0, 0.3), (1.0, 3.3))}, "aspect"),
        ({"aspect": ((0.3, 3.3),)}, "aspect"),
        ({"aspect": 5}, "aspect"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 0.7}, "jitter"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        CutPaste(**arguments)


def test_bad_images_are_named():
    with pytest.raises(TypeError, match="images"):
        CutPaste()(torch.zeros(2, 3, 32, 32, dtype=torch.int32))
    with pytest.raises(ValueError, match="images"):
        CutPaste()(torch.zeros(3, 32, 32))
