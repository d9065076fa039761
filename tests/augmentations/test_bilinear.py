# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bilinear interpolation against PyTorch's own, and gradients that are deterministic on every device."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import (
    ColorJitter,
    CutPaste,
    CutPasteScar,
    LocalAugmentation,
    LocalCorruption,
    RandomCrop,
    RandomShift,
    Symmetries,
)
from anomalib_ssl.augmentations.bilinear import sample_bilinear

paddings = pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])

NONDETERMINISTIC = (
    "GridSampler",
    "Upsample",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "ReflectionPad",
    "MaxUnpool",
)
"""Beginnings of names of gradients for which PyTorch has no deterministic implementation on a GPU."""


def draw(dtype, shape=(3, 2, 9, 14), places=(8, 7)):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(shape, generator=generator, dtype=dtype)
    # Far beyond the image, too.
    return images, torch.rand(shape[0], *places, 2, generator=generator, dtype=dtype) * 7 - 3.5


@paddings
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "places"), [((3, 2, 9, 14), (8, 7)), ((2, 3, 200, 256), (60, 70))])
def test_equals_grid_sample(padding, dtype, shape, places):
    images, grid = draw(dtype, shape, places)
    expected = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    assert torch.equal(sample_bilinear(images, grid, padding), expected)
    result = sample_bilinear(images, grid.requires_grad_(), padding)
    # Positions, up to 2.25 sides, are rounded three times along each axis; values change by 1 per pixel at most.
    tolerance = 2 * 2 * 3 * 2.25 * max(shape) * torch.finfo(dtype).eps / 2
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=0)
    with torch.no_grad():
        assert torch.equal(sample_bilinear(images, grid, padding), expected)


@paddings
def test_gradients_equal_those_of_grid_sample(padding):
    images, grid = (tensor.requires_grad_() for tensor in draw(torch.float64))
    weights = draw(torch.float64)[1][..., 0].unsqueeze(1)
    expected = F.grid_sample(images, grid, padding_mode=padding, align_corners=False)
    ours = sample_bilinear(images, grid, padding)
    for gradient, other in zip(
        torch.autograd.grad((ours * weights).sum(), (images, grid)),
        torch.autograd.grad((expected * weights).sum(), (images, grid)),
        strict=True,
    ):
        torch.testing.assert_close(gradient, other, atol=1e-12, rtol=0)


@paddings
def test_gradients_of_first_and_second_order_equal_finite_differences(padding):
    images, grid = (tensor.requires_grad_() for tensor in draw(torch.float64, (2, 1, 4, 5), (3, 3)))
    assert torch.autograd.gradcheck(lambda *inputs: sample_bilinear(*inputs, padding), (images, grid))
    assert torch.autograd.gradgradcheck(lambda *inputs: sample_bilinear(*inputs, padding), (images, grid))


def gradients_in(tensor):
    """Names of the gradients that a tensor's own goes through."""
    found, todo = set(), [tensor.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in found:
            found.add(node)
            todo += [parent for parent, _ in node.next_functions]
    return {node.name() for node in found}


def test_gradients_are_told_by_their_names():
    images, grid = draw(torch.float32)
    names = gradients_in(F.grid_sample(images.requires_grad_(), grid, align_corners=False).exp())
    assert names >= {"ExpBackward0", "GridSampler2DBackward0"}
    assert any(name.startswith(NONDETERMINISTIC) for name in names)


@pytest.mark.parametrize(
    "augmentation",
    [
        CutPaste(),
        CutPasteScar((2, 4), (5, 8), reference_size=None),
        RandomShift(4, reference_size=None),
        RandomCrop(20),
        ColorJitter(),
        LocalAugmentation(),
        *(LocalCorruption(p=1.0, fills=[fill]) for fill in ("image", "deform", "flat", "noise")),
        Symmetries(("horizontal",), quarter_turns=True, rotation=20, shift=0.1),
    ],
    ids=lambda augmentation: type(augmentation).__name__,
)
def test_gradients_of_augmentations_are_deterministic(augmentation):
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    parameters = augmentation.sample(images.shape, generator=torch.Generator().manual_seed(0))
    result = augmentation.apply(images, parameters)[0]
    names = gradients_in(result)
    assert len(names) > 2
    assert not [name for name in names if name.startswith(NONDETERMINISTIC)]
    (gradient,) = torch.autograd.grad(result.square().mean(), images)
    assert gradient.isfinite().all()
    assert gradient.any()
