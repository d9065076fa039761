# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Masks of SSM: partitions of cells."""

import numpy as np
import pytest
import torch

from anomalib_ssl.models.ssm.masking import checkerboards, compose, random_masks, random_partition, scaled_cells


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def cells_of(masks, cell):
    """One value a cell, after asserting that cells are of one value."""
    values = masks[..., ::cell, ::cell]
    enlarged = values.repeat_interleave(cell, -1).repeat_interleave(cell, -2)
    assert torch.equal(enlarged, masks)
    return values


@pytest.mark.parametrize(("size", "cell", "num_masks"), [((32, 32), 4, 3), ((16, 48), 2, 2), ((24, 24), 8, 9)])
def test_every_pixel_is_hidden_exactly_once(size, cell, num_masks):
    masks = random_partition(size, cell, num_masks, generator=seeded())
    assert masks.shape == (num_masks, 1, 1, *size)
    assert masks.dtype == torch.float32
    assert torch.equal((1 - masks).sum(dim=0), torch.ones(1, 1, *size))
    hidden = (1 - cells_of(masks, cell)).sum(dim=(-1, -2, -3))
    assert hidden.max() - hidden.min() <= 1


def test_partitions_are_uniform_and_independent():
    generator, draws = seeded(), 3000
    masks = torch.cat([random_partition((8, 8), 2, 3, generator=generator) for _ in range(draws)], dim=1)
    cells = cells_of(masks, 2).squeeze(2)
    # 16 cells, of which 6, 5 and 5 are hidden; five standard deviations of the frequencies.
    for mask, share in zip(1 - cells, (6 / 16, 5 / 16, 5 / 16), strict=True):
        assert (mask.mean(dim=0) - share).abs().max() < 5 * (share * (1 - share) / draws) ** 0.5
    # Two given cells share a mask as often as two of 16 drawn without replacement do.
    together = (cells[:, :, 0, 0] == cells[:, :, 0, 1]).all(dim=0).float().mean()
    expected = (6 * 5 + 5 * 4 + 5 * 4) / (16 * 15)
    assert together == pytest.approx(expected, abs=5 * (expected * (1 - expected) / draws) ** 0.5)


def test_seed_decides():
    torch.manual_seed(0)
    first = random_masks((16, 16), (2, 4, 8))
    torch.manual_seed(0)
    assert torch.equal(random_masks((16, 16), (2, 4, 8)), first)
    assert not torch.equal(random_masks((16, 16), (2, 4, 8)), first)


def test_masks_are_the_same_whatever_the_default_data_type(double_by_default):
    expected = random_partition((8, 8), 2, generator=seeded())
    double_by_default()
    assert torch.equal(random_partition((8, 8), 2, generator=seeded()), expected)


def test_checkerboards_are_complements_whose_neighbours_differ():
    masks = checkerboards((16, 24), 4)
    assert masks.shape == (2, 1, 1, 16, 24)
    assert torch.equal(masks[0], 1 - masks[1])
    cells = cells_of(masks, 4)
    assert (cells[..., 1:] != cells[..., :-1]).all()
    assert (cells[..., 1:, :] != cells[..., :-1, :]).all()


def test_cell_sizes_are_drawn_equally_often():
    torch.manual_seed(0)
    counts = {2: 0, 4: 0, 8: 0}
    for _ in range(600):
        masks = random_masks((8, 16), (2, 4, 8), num_masks=2)[0, 0, 0].numpy()
        counts[next(k for k in (8, 4, 2) if np.array_equal(masks, masks[::k, ::k].repeat(k, 0).repeat(k, 1)))] += 1
    assert all(abs(count - 200) < 5 * (600 * 2 / 9) ** 0.5 for count in counts.values())


def test_composite_takes_each_pixel_from_where_it_was_hidden():
    masks = random_partition((8, 8), 2, 3, generator=seeded())
    uncovered = torch.zeros(1, 1, 8, 8)
    uncovered[..., 2:, :5] = 1
    images = torch.rand(2, 3, 8, 8, generator=seeded())
    restored = torch.arange(1.0, 4.0).view(3, 1, 1, 1, 1).expand(3, 2, 3, 8, 8)
    shown = masks.maximum(uncovered)
    composite = compose(images, restored, shown)
    assert composite.shape == (2, 3, 8, 8)
    for row, column in np.ndindex(8, 8):
        hidden = [number for number in range(3) if shown[number, 0, 0, row, column] == 0]
        expected = torch.full((2, 3), hidden[0] + 1.0) if hidden else images[..., row, column]
        assert torch.equal(composite[..., row, column], expected)
    assert (shown.amin(dim=0) == 1).any()


def test_cells_scale_with_the_image():
    assert scaled_cells((4, 8, 16), (256, 256)) == (4, 8, 16)
    assert scaled_cells((4, 8, 16), (128, 192)) == (2, 4, 8)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: scaled_cells((4, 8, 16), (304, 304)), "cell_sizes .* 304 x 304"),
        (lambda: scaled_cells((1,), (64, 64)), "at least 1 pixel"),
        (lambda: scaled_cells((), (64, 64)), "cell_sizes"),
        (lambda: random_partition((16, 16), 3), "cell must divide"),
        (lambda: random_partition((16, 16), 0), "cell"),
        (lambda: random_partition((16, 16), 8, num_masks=5), "num_masks"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()
