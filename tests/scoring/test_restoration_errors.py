# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Errors of restorations are what they are called."""

import cv2
import numpy as np
import pytest
import torch

from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.scoring import NotFittedError, RestorationErrors
from anomalib_ssl.scoring.box_filter import box_filter

SIZE = (64, 64)

COLOUR = frozenset({"colour"})


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(images):
    errors = RestorationErrors(SIZE)
    errors.fit([(images, 0.5 * images + 0.25)])
    return errors


def test_a_perfect_reconstruction_has_no_errors():
    images = rand(2, 3, 64, 64)
    errors = fitted(images)(images, images)
    assert {name: tuple(values.shape) for name, values in errors.items()} == {
        "plain": (2, 1, 64, 64),
        "scaled": (2, 1, 64, 64),
        "gradient": (2, 1, 64, 64),
        "colour": (2, 1, 64, 64),
        "both": (2, 2, 64, 64),
        "all": (2, 3, 64, 64),
    }
    assert all(values.abs().max() < 1e-6 for values in errors.values())


def test_errors_are_what_they_are_called():
    images, blurred = rand(2, 3, 64, 64), 0.5 * rand(2, 3, 64, 64) + 0.25
    compare = fitted(images)
    errors = compare(images, blurred)
    plain = compare.plain(images, blurred)
    gradient = gradient_distance_map(gradient_pyramid(images), gradient_pyramid(blurred))
    assert torch.equal(errors["plain"], plain)
    assert torch.equal(errors["scaled"], compare.scale(plain, images))
    torch.testing.assert_close(errors["gradient"], box_filter(gradient, 3))
    assert torch.equal(errors["both"], torch.cat([errors["scaled"], errors["gradient"]], dim=1))
    assert torch.equal(errors["all"], torch.cat([errors["both"], errors["colour"]], dim=1))


def test_colour_is_that_of_lab_and_blind_to_brightness():
    images = rand(2, 3, 64, 64)
    restored = rand(2, 3, 64, 64, seed=1)
    as_bytes = [(255 * pictures).round().to(torch.uint8).permute(0, 2, 3, 1).numpy() for pictures in (images, restored)]
    # OpenCV's L*a*b* of floats is in the usual units.
    first, second = (
        np.stack([cv2.cvtColor(np.float32(picture) / 255, cv2.COLOR_RGB2LAB) for picture in pictures])
        for pictures in as_bytes
    )
    difference = torch.from_numpy(((first - second)[..., 1:] ** 2).mean(axis=-1)).unsqueeze(1)
    colour = RestorationErrors(SIZE)(*(torch.from_numpy(p).permute(0, 3, 1, 2) / 255 for p in as_bytes), COLOUR)
    torch.testing.assert_close(colour["colour"], box_filter(difference, 3), rtol=1e-2, atol=0.1)
    gray = rand(2, 1, 64, 64).expand(-1, 3, -1, -1)
    assert RestorationErrors(SIZE)(gray, 0.5 * gray, COLOUR)["colour"].max() < 1e-3 < colour["colour"].min()


def test_of_grey_images_colour_is_noise():
    gray, tinted = rand(2, 1, 64, 64).expand(-1, 3, -1, -1), rand(2, 3, 64, 64)
    compare = RestorationErrors(SIZE)
    for images, colours in ((gray, False), (tinted, True)):
        compare.fit([(images, 0.5 * images)])
        errors = compare(gray, tinted)
        assert (errors["colour"].max() > 0) == colours
        assert torch.equal(errors["all"][:, :2], errors["both"])


def test_only_wanted_errors_are_computed():
    compare, images = RestorationErrors(SIZE), rand(2, 3, 64, 64)
    assert set(compare(images, images, frozenset({"plain"}))) == {"plain"}
    assert set(compare(images, images, frozenset({"gradient"}))) == {"plain", "gradient"}
    with pytest.raises(NotFittedError, match="ContrastScale"):
        compare(images, images, frozenset({"both"}))


def test_one_wrong_pixel_spreads_as_far_as_the_windows_reach():
    images = torch.zeros(1, 3, 64, 64)
    changed = images.clone()
    changed[:, 1, 16, 16] = 0.6
    errors = RestorationErrors(SIZE).plain(images, changed)
    # Two passes of three pixels.
    assert (errors[0, 0] > 0).any(dim=0).sum() == 2 * (3 - 1) + 1
    assert float(errors.sum()) == pytest.approx(0.6**2 / 3, rel=1e-5)


def test_a_constant_error_stays_constant_up_to_the_border():
    images = torch.zeros(1, 3, 64, 64)
    torch.testing.assert_close(RestorationErrors(SIZE).plain(images, images + 0.2), torch.full((1, 1, 64, 64), 0.04))


@pytest.mark.parametrize(("side", "size"), [(32, 1), (64, 3), (128, 5)])
def test_window_follows_the_images(side, size):
    assert RestorationErrors((side, side)).box_size == size


def test_scaled_errors_of_rich_and_poor_images_are_alike():
    texture = rand(8, 3, 64, 64) - 0.5
    contrast = torch.linspace(0.2, 1, 8).view(-1, 1, 1, 1)
    images, blurred = 0.5 + contrast * texture, 0.5 + 0.5 * contrast * texture
    compare = RestorationErrors(SIZE)
    compare.fit([(images, blurred)])
    errors = compare(images, blurred)
    plain, scaled = (errors[name].mean(dim=(1, 2, 3)) for name in ("plain", "scaled"))
    assert plain.max() / plain.min() > 20
    assert scaled.max() / scaled.min() < 1.2
    defect = images.clone()
    defect[:, :, 8:14, 8:14] = 1
    assert (compare(defect, blurred)["scaled"][:, 0, 10, 10] > scaled).all()
