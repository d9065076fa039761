# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste-Scar against a per-pixel reference, its ranges and its invariants."""

import math
from functools import partial

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from anomalib_ssl.augmentations import CutPasteScar
from anomalib_ssl.augmentations.color_jitter import OPERATIONS

# Sizes as they are, whatever the image's.
in_pixels = partial(CutPasteScar, reference_size=None)


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def jittered_strip(image, parameters, index):
    adjust = dict(
        zip(OPERATIONS, (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue), strict=True)
    )
    top, left = int(parameters["source_top"][index]), int(parameters["source_left"][index])
    height, width = int(parameters["height"][index]), int(parameters["width"][index])
    strip = image[:, top : top + height, left : left + width]
    for operation in parameters["order"].flatten().tolist() if "order" in parameters else []:
        strip = adjust[OPERATIONS[operation]](strip, parameters[OPERATIONS[operation]][index].item())
    return strip


def bilinear(strip, y, x):
    """Interpolate between pixel centres; positions beyond the outermost centres take the nearest."""
    height, width = strip.shape[-2:]
    y, x = min(max(y - 0.5, 0), height - 1), min(max(x - 0.5, 0), width - 1)
    y0, x0 = int(y), int(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    upper = strip[:, y0, x0] * (1 - fx) + strip[:, y0, x1] * fx
    lower = strip[:, y1, x0] * (1 - fx) + strip[:, y1, x1] * fx
    return upper * (1 - fy) + lower * fy


def reference_scar(images, parameters):
    """Visit every pixel of every image and ask whether its centre lies in the rotated strip."""
    results, masks = images.clone(), torch.zeros_like(images[:, :1], dtype=torch.bool)
    for i, image in enumerate(images):
        strip = jittered_strip(image, parameters, i)
        height, width = strip.shape[-2:]
        angle = parameters["angle"][i].item()
        for row in range(image.shape[-2]):
            for col in range(image.shape[-1]):
                dy = row + 0.5 - parameters["center_y"][i].item()
                dx = col + 0.5 - parameters["center_x"][i].item()
                y = dx * math.sin(angle) + dy * math.cos(angle) + height / 2
                x = dx * math.cos(angle) - dy * math.sin(angle) + width / 2
                if 0 < y < height and 0 < x < width:
                    results[i, :, row, col] = bilinear(strip, y, x)
                    masks[i, :, row, col] = True
    return results, masks


@pytest.mark.parametrize("jitter", [0.0, 0.2])
@pytest.mark.parametrize(("shape", "angle"), [((4, 3, 32, 32), 45.0), ((3, 3, 31, 48), 180.0), ((3, 3, 40, 33), 0.0)])
def test_equals_per_pixel_reference(shape, angle, jitter):
    images = rand_images(*shape)
    augment = in_pixels(angle=angle, jitter=jitter)
    parameters = augment.sample(shape, generator=torch.Generator().manual_seed(1))
    result, masks = augment.apply(images, parameters)
    expected, expected_masks = reference_scar(images, parameters)
    # A pixel whose centre falls on an edge may go either way in float32.
    agree = (masks == expected_masks).expand_as(result)
    assert (~agree).float().mean() < 1e-3
    torch.testing.assert_close(result[agree], expected[agree], atol=1e-5, rtol=0)


def test_upright_scar_is_an_exact_copy():
    images = rand_images(64, 3, 48, 48)
    augment = in_pixels(angle=0.0, jitter=0.0)
    p = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
    result, masks = augment.apply(images, p)
    assert torch.equal(masks.sum(dim=(1, 2, 3)), p["height"] * p["width"])
    for i in range(len(images)):
        top, left = int(p["source_top"][i]), int(p["source_left"][i])
        strip = images[i, :, top : top + int(p["height"][i]), left : left + int(p["width"][i])]
        torch.testing.assert_close(result[i][masks[i].expand(3, -1, -1)], strip.flatten(), atol=5e-6, rtol=0)


def test_angle_turns_counter_clockwise():
    images = torch.zeros(1, 1, 64, 64)
    augment = in_pixels(width=(2, 2), length=(24, 24), angle=45.0, jitter=0.0)
    p = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
    p["angle"] = torch.tensor([math.radians(30)])
    p["center_y"] = p["center_x"] = torch.tensor([32.0])
    row, col = augment.apply(images, p)[1][0, 0].nonzero().double().T
    # A vertical strip turned counter-clockwise leans to the left at its top: columns grow with rows.
    assert torch.corrcoef(torch.stack([row, col]))[0, 1] > 0.9


def test_sizes_keep_to_their_ranges():
    augment = in_pixels()
    p = augment.sample((10_000, 3, 256, 256), generator=torch.Generator().manual_seed(0))
    assert p["width"].unique().tolist() == list(range(2, 17))
    assert p["height"].unique().tolist() == list(range(10, 26))
    degrees = p["angle"].rad2deg()
    assert -45 <= degrees.min() < -44.9
    assert 44.9 < degrees.max() <= 45
    assert abs(degrees.mean()) < 1


def test_scars_lie_whole_inside_the_image():
    augment = in_pixels(jitter=0.0)
    shape = (2_000, 1, 32, 32)
    p = augment.sample(shape, generator=torch.Generator().manual_seed(0))
    _, masks = augment.apply(torch.zeros(shape), p)
    area = masks.sum(dim=(1, 2, 3))
    nominal = p["height"] * p["width"]
    # Cut off scars would miss much more than what rasterising an edge adds or takes.
    assert ((area - nominal).abs() <= (p["height"] + p["width"])).all()
    rows, cols = masks.any(dim=3).sum(dim=(1, 2)), masks.any(dim=2).sum(dim=(1, 2))
    rotated = p["angle"].abs() > math.radians(20)
    assert (area < rows * cols)[rotated].all()


@pytest.mark.parametrize(("side", "widths", "lengths"), [(128, (1, 8), (5, 12)), (512, (4, 32), (20, 50))])
def test_reference_size_scales_with_the_image(side, widths, lengths):
    p = CutPasteScar().sample((5_000, 3, side, side), generator=torch.Generator().manual_seed(0))
    assert (p["width"].min(), p["width"].max()) == widths
    assert (p["height"].min(), p["height"].max()) == lengths


def test_outside_the_mask_nothing_changes():
    images = rand_images(16, 3, 64, 64)
    result, masks = in_pixels()(images)
    assert torch.equal(result[~masks.expand_as(result)], images[~masks.expand_as(images)])
    assert (masks.sum(dim=(1, 2, 3)) > 0).all()


def test_black_pixels_are_pasted_too():
    images = torch.ones(8, 3, 64, 64)
    p = in_pixels(jitter=0.0).sample(images.shape, generator=torch.Generator().manual_seed(0))
    for i in range(8):
        top, left = int(p["source_top"][i]), int(p["source_left"][i])
        images[i, :, top : top + int(p["height"][i]), left : left + int(p["width"][i])] = 0
    result, masks = in_pixels(jitter=0.0).apply(images, p)
    assert (result[masks.expand_as(result)] == 0).all()


def test_parameters_replay_the_call_and_seed_decides():
    images = rand_images(8, 3, 64, 64)
    augment = in_pixels()
    parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(3))
    first = augment.apply(images, parameters)[0]
    assert torch.equal(augment.apply(images, parameters)[0], first)
    assert torch.equal(augment(images, torch.Generator().manual_seed(3))[0], first)
    assert not torch.equal(augment(images, torch.Generator().manual_seed(4))[0], first)


def test_image_smaller_than_the_scar_is_refused():
    with pytest.raises(ValueError, match=r"24x24 are smaller than the largest scar.*30x30"):
        in_pixels()(torch.zeros(2, 3, 24, 24))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"width": (0, 4)}, "width"),
        ({"width": (8, 4)}, "width"),
        ({"length": (5,)}, "length"),
        ({"angle": -1.0}, "angle"),
        ({"angle": float("nan")}, "angle"),
        ({"jitter": 0.6}, "jitter"),
        ({"reference_size": 0}, "reference_size"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        CutPasteScar(**arguments)
