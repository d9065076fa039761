# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Mean feature maps: one pass against two, what varies anyway, what is refused."""

import math

import pytest
import torch

from anomalib_ssl.models.dynamic_local_augmentation.deviation import MapDeviation
from anomalib_ssl.scoring import NotFittedError


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalize", ["none", "train", "variance"])
@pytest.mark.parametrize("sizes", [(12,), (5, 4, 3), (1,) * 12])
def test_deviation_of_one_pass_equals_two_passes(normalize, sizes):
    spreads = torch.linspace(0, 3, 4).view(4, 1, 1)  # One of the channels never changes.
    maps = [10 + spreads * rand(12, 4, 6, 5), 100 + 0.01 * rand(12, 3, 3, 2, seed=1)]
    deviation = MapDeviation([(4, 6, 5), (3, 3, 2)], normalize)
    deviation.start()
    for batches in zip(*(values.split(list(sizes)) for values in maps), strict=True):
        deviation.update(batches)
    deviation.finish()
    for number, (values, errors) in enumerate(zip(maps, deviation(maps), strict=True)):
        exact = values.double()
        squares = (exact - exact.mean(dim=0)).square()
        torch.testing.assert_close(deviation.mean_errors[number].double(), squares.mean(), rtol=2e-3, atol=0)
        if normalize == "variance":
            variance = squares.mean(dim=0, keepdim=True)
            known = (variance + variance.mean(dim=(2, 3), keepdim=True)) / 2
            squares = squares / (known + 0.01 * squares.mean())
        expected = squares.mean(dim=1, keepdim=True)
        if normalize != "none":
            expected = expected / expected.mean()
            assert float(errors.mean()) == pytest.approx(1, rel=1e-2)
        torch.testing.assert_close(errors.double(), expected, rtol=2e-2, atol=1e-3)


def test_what_varies_anyway_counts_for_less():
    scale = torch.tensor([0.1, 1.0]).view(2, 1, 1)
    deviation = MapDeviation([(2, 4, 4)], normalize="variance")
    deviation.start()
    deviation.update([scale * rand(50, 2, 4, 4)])
    deviation.finish()
    changed = torch.stack([deviation.mean_0, deviation.mean_0])
    changed[0, 0] += 0.5
    changed[1, 1] += 0.5
    steady, lively = deviation([changed])[0].mean(dim=(1, 2, 3))
    assert steady > 20 * lively


def test_a_single_image_is_its_own_mean():
    maps = [rand(1, 4, 6, 5)]
    deviation = MapDeviation([(4, 6, 5)])
    deviation.start()
    deviation.update(maps)
    deviation.finish()
    assert torch.equal(deviation(maps)[0], torch.zeros(1, 1, 6, 5))


def test_deviation_refuses_what_it_cannot_do():
    deviation = MapDeviation([(4, 6, 5)])
    with pytest.raises(NotFittedError):
        deviation([rand(1, 4, 6, 5)])
    deviation.start()
    with pytest.raises(ValueError, match="at least 1 image"):
        deviation.finish()
    with pytest.raises(ValueError, match="image_size"):
        deviation.update([rand(1, 4, 3, 5)])
    deviation.update([torch.full((1, 4, 6, 5), math.nan)])
    with pytest.raises(ValueError, match="diverged"):
        deviation.finish()
