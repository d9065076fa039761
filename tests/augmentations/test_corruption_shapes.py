# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Outlines, random fields and blend weights of local corruptions against independent references."""

import math

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Polygon
from scipy import ndimage

from anomalib_ssl.augmentations.corruption.fields import (
    displaced_coordinates,
    sample_displacement,
    sample_knots,
    smooth_field,
)
from anomalib_ssl.augmentations.corruption.shapes import SHAPES, region_level, sample_regions
from anomalib_ssl.augmentations.corruption.weights import feathered, fit_area, in_pixels


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def regions(shape, shapes=SHAPES, count=(1, 3), seed=0):
    return sample_regions(shape, shapes, count, (0.03, 0.2), generator=seeded(seed), host=seeded(seed + 1))


def pixel_centres(batch, height, width):
    y = (torch.arange(height) + 0.5).view(-1, 1).expand(batch, height, width)
    return y, (torch.arange(width) + 0.5).expand_as(y)


def reference_outline(p, i, k):
    """Corners of a fine polygon around one region."""
    get = {name: p[name][i, k].numpy() for name in p if name not in ("regions", "wave", "phase")}
    if get["outline"] == SHAPES.index("stroke"):
        u = np.linspace(-1, 1, 150) * get["half_length"]
        v = get["bend"] * u**2 / get["half_length"]
        spine, width = np.stack([u, v], axis=1), get["half_width"]
        return place(spine, get), width
    t = np.linspace(-np.pi, np.pi, 1000)
    waves = sum(
        wave * np.cos(n * t + phase)
        for n, (wave, phase) in enumerate(zip(p["wave"][i, k].tolist(), p["phase"][i, k].tolist(), strict=True), 2)
    )
    radius = 1 + waves
    corners = np.stack([get["half_length"] * radius * np.cos(t), get["half_width"] * radius * np.sin(t)], axis=1)
    return place(corners, get), None


def place(points, get):
    cos, sin = np.cos(get["angle"]), np.sin(get["angle"])
    x = points[:, 0] * cos - points[:, 1] * sin + get["center_x"]
    y = points[:, 0] * sin + points[:, 1] * cos + get["center_y"]
    return np.stack([x, y], axis=1)


def reference_mask(p, i, height, width):
    """Rasterise the union of a sample's regions one by one."""
    y, x = np.mgrid[:height, :width] + 0.5
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = np.zeros(len(points), dtype=bool)
    for k in range(int(p["regions"][i])):
        line, thickness = reference_outline(p, i, k)
        if thickness is None:
            inside |= Polygon(line).contains_points(points)
        else:
            inside |= np.linalg.norm(points[:, None] - line[None], axis=2).min(axis=1) < thickness
    return inside.reshape(height, width)


@pytest.mark.parametrize("shapes", [("ellipse",), ("blob",), SHAPES])
@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 110)])
def test_outlines_equal_a_polygon_rasteriser(shapes, height, width):
    p = regions((10, 3, height, width), shapes)
    p["bend"].zero_()
    level = region_level(p, *pixel_centres(10, height, width))
    for i in range(10):
        expected = reference_mask(p, i, height, width)
        wrong = (level[i].numpy() > 0) != expected
        # Only where an outline passes within a fraction of a pixel of a pixel's centre.
        assert wrong.mean() < 0.002
        border = ndimage.binary_dilation(expected) ^ ndimage.binary_erosion(expected, border_value=1)
        assert not (wrong & ~border).any()


def test_bent_strokes_follow_their_parabola():
    p = regions((6, 3, 128, 128), ("stroke",), (1, 1))
    assert p["bend"].abs().max() > 0.15
    level = region_level(p, *pixel_centres(6, 128, 128))
    for i in range(6):
        expected, mask = reference_mask(p, i, 128, 128), level[i].numpy() > 0
        # The width is measured across the stroke's axis rather than across the curve, which thins its bent ends.
        assert (mask & expected).sum() / max((mask | expected).sum(), 1) > 0.75


def test_ranges_and_kinds():
    p = regions((4000, 3, 200, 200))
    assert torch.bincount(p["regions"]).float()[1:].sub(4000 / 3).abs().max() < 150
    assert torch.bincount(p["outline"].flatten()).float().sub(4000).abs().max() < 250
    stroke = p["outline"] == SHAPES.index("stroke")
    for selected, name, low, high in (
        (~stroke, "half_length", 6, 40),
        (~stroke, "half_width", 6, 40),
        (stroke, "half_length", 20, 60),
        (stroke, "half_width", 1, 4),
    ):
        values = p[name][selected]
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
    for name in ("center_y", "center_x"):
        assert 20 <= p[name].min() < 21
        assert 179 < p[name].max() <= 180
    blob = p["outline"] == SHAPES.index("blob")
    assert torch.all(p["wave"][~blob] == 0)
    torch.testing.assert_close(p["wave"][blob].sum(-1), torch.full((int(blob.sum()),), 0.5))


def test_number_and_kind_are_independent():
    p = regions((4000, 3, 64, 64))
    pair = torch.stack([p["regions"], p["outline"][:, 0]]).float()
    assert torch.corrcoef(pair)[0, 1].abs() < 0.05


def test_unused_regions_do_not_matter():
    p = regions((6, 3, 64, 64), count=(1, 1))
    q = regions((6, 3, 64, 64), count=(3, 3), seed=5)
    joined = {name: value if name == "regions" else torch.cat([value, q[name]], dim=1) for name, value in p.items()}
    grid = pixel_centres(6, 64, 64)
    assert torch.equal(region_level(joined, *grid), region_level(p, *grid))


@pytest.mark.parametrize("shape", [(400, 3, 48, 48), (400, 1, 32, 80)])
def test_fields_are_white_noise_smoothed_by_a_gaussian(shape):
    height, width = shape[-2:]
    sigma = torch.full((shape[0],), 4.0)
    field = smooth_field(sample_knots(shape, 2, 3.0, generator=seeded()), sigma, height, width)
    assert field.shape == (shape[0], 2, height, width)
    # A variance of 1 everywhere, also at the borders.
    assert (field.var(dim=(0, 1)) - 1).abs().max() < 0.25
    assert abs(field.var(dim=(0, 1)).mean() - 1) < 0.03
    assert field.mean().abs() < 0.03
    for lag in (2, 4, 8):
        expected = math.exp(-(lag**2) / (4 * 4.0**2))
        for moved, kept in ((field[..., lag:, :], field[..., :-lag, :]), (field[..., lag:], field[..., :-lag])):
            assert abs((moved * kept).mean() - expected) < 0.05


def test_every_sample_has_its_own_smoothing():
    sigma = torch.tensor([2.0, 8.0])
    knots = sample_knots((2, 3, 64, 64), 50, 2.0, generator=seeded())
    slope = smooth_field(knots, sigma, 64, 64).diff(dim=-1).square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(slope, 1 / (sigma * math.sqrt(2)), rtol=0.1, atol=0)


def test_displacements_keep_to_their_amplitude():
    p = sample_displacement((200, 3, 64, 64), (0.1, 0.1), generator=seeded())
    y, x = displaced_coordinates(p, 64, 64)
    still_y, still_x = pixel_centres(200, 64, 64)
    for moved, still in ((y, still_y), (x, still_x)):
        assert abs(((moved - still).abs() < 6.4).float().mean() - 0.954) < 0.01


def test_displacements_are_exact_under_autocast():
    p = sample_displacement((2, 3, 64, 64), (0.1, 0.1), generator=seeded())
    expected = displaced_coordinates(p, 64, 64)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(displaced_coordinates(p, 64, 64)[0], expected)


def test_levels_become_distances():
    y, x = pixel_centres(3, 40, 40)
    slope = torch.tensor([0.5, 1.0, 3.0]).view(-1, 1, 1)
    distance = (y * 0.6 + x * 0.8) - 20
    torch.testing.assert_close(in_pixels(distance * slope), distance, atol=1e-3, rtol=1e-4)


def test_areas_are_brought_inside_their_limits_and_others_left_alone():
    y, x = pixel_centres(5, 60, 60)
    radius = torch.tensor([1.0, 5.0, 15.0, 25.0, -3.0]).view(-1, 1, 1)
    level = radius - torch.hypot(y - 29.3, x - 31.1)
    fitted = fit_area(level, (0.02, 0.15))
    share = (fitted > 0).float().mean(dim=(1, 2))
    # Discs of 5 radii: too small, well inside, too large, too large, and empty.
    assert torch.equal(fitted[1], level[1])
    assert (share >= 0.02).all()
    assert (share <= 0.15).all()
    for i, limit in ((0, 0.02), (2, 0.15), (3, 0.15), (4, 0.02)):
        assert abs(share[i] - limit) < 0.01
        shift = fitted[i] - level[i]
        torch.testing.assert_close(shift, shift[0, 0].expand_as(shift), atol=1e-4, rtol=0)


@pytest.mark.parametrize("area", [(0.001, 0.01), (0.3, 0.6), (0.7, 0.9)])
def test_areas_far_from_those_of_the_regions_are_reached(area):
    y, x = pixel_centres(3, 64, 64)
    level = torch.tensor([2.0, 20.0, 40.0]).view(-1, 1, 1) - torch.hypot(y - 10, x - 50)
    share = (fit_area(level, area) > 0).float().mean(dim=(1, 2))
    assert (share >= area[0]).all()
    assert (share <= area[1]).all()


@pytest.mark.parametrize("area", [(0.0, 0.0), (0.0, 0.0005), (0.25, 0.25), (0.01, 0.0102), (0.0, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(64, 64), (16, 512)])
def test_narrow_limits_are_kept_to_the_pixel(area, size):
    # Levels lie close together at the top, and no two are alike.
    level = 3 - 5 * torch.rand(20, *size, generator=torch.Generator().manual_seed(0)).pow(1.5)
    count = (fit_area(level, area) > 0).sum(dim=(1, 2))
    pixels = size[0] * size[1]
    assert (count >= max(area[0] * pixels, 1)).all()
    assert (count <= max(area[1] * pixels, 1)).all()
    assert set(feathered(fit_area(level, area), torch.zeros(20)).unique().tolist()) <= {0.0, 1.0}


def test_a_pixel_at_least():
    y, x = pixel_centres(1, 16, 16)
    fitted = fit_area(-2 - torch.hypot(y - 8.2, x - 7.9), (0.0, 0.0))
    assert (fitted > 0).sum() == 1


def test_feathering_is_a_ramp_inside_the_outline():
    level = torch.linspace(-3.05, 4.95, 81).view(1, 1, 81).expand(2, 1, 81)
    weights = feathered(level, torch.tensor([0.0, 4.0]))
    assert weights.shape == (2, 1, 1, 81)
    assert torch.equal(weights[0, 0], (level[0] > 0).float())
    ramp = level[1].numpy()
    expected = np.where(ramp > 0, np.clip(ramp / 4, 0.25, 1), 0)
    np.testing.assert_allclose(weights[1, 0].numpy(), expected, atol=1e-6)
