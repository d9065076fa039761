# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The diagnostics, exact for a linear orthogonal projection, and off for maps that are none."""

import pytest
import torch

from anomalib_ssl.models.autoencoder_projection import diagnostics
from anomalib_ssl.models.autoencoder_projection.network import SDCAutoencoder

SHAPE = (3, 4, 5)
SIZE = 60


def basis(rank=20):
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(SIZE, rank, dtype=torch.float64, generator=generator)).Q


def linear(matrix):
    return lambda images: (images.flatten(1) @ matrix.T).view(-1, *SHAPE)


P = linear(basis() @ basis().T)


def rand(*shape, seed=1):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def data(count=6):
    x = P(rand(count, *SHAPE))
    masks = torch.zeros(count, 1, 4, 5, dtype=torch.bool)
    masks[:, :, 1:3, 1:4] = True
    return x, torch.where(masks, rand(count, *SHAPE, seed=2), x), masks


def test_an_orthogonal_projection_is_found_to_be_one():
    x, corrupted, masks = data()
    measured = diagnostics.measure(P, x, corrupted, masks, chunk=4)
    zero = torch.zeros(6, dtype=torch.float64)
    assert {len(values) for values in measured.values()} == {6}
    torch.testing.assert_close(measured["fixed_point"], zero)
    torch.testing.assert_close(measured["idempotence"], zero)
    torch.testing.assert_close(measured["jacobian_idempotence"], zero)
    torch.testing.assert_close(measured["jacobian_symmetry"], zero + 1)
    assert (measured["conservation"] <= 1).all()
    assert (measured["nearest"] <= 1).all()
    assert (measured["nearest"] >= measured["conservation"] - 1e-12).all()
    # |r - x| and |r - corrupted| are the legs, |corrupted - x| is the hypotenuse.
    torch.testing.assert_close(measured["recovery"].square() + measured["conservation"].square(), zero + 1)


def test_pythagoras_for_every_image_of_the_range():
    _, corrupted, _ = data()
    restored = P(corrupted)
    for seed in range(5):
        y = P(rand(6, *SHAPE, seed=10 + seed)) * 3
        left = (corrupted - y).square().sum(dim=(1, 2, 3))
        right = (corrupted - restored).square().sum(dim=(1, 2, 3)) + (restored - y).square().sum(dim=(1, 2, 3))
        torch.testing.assert_close(left, right)


def test_maps_that_are_no_projection_are_found_out():
    x, corrupted, _ = data()
    directions = rand(6, *SHAPE, seed=3)
    shrink = linear(0.5 * basis() @ basis().T)
    torch.testing.assert_close(diagnostics.idempotence(P, P(corrupted), corrupted), torch.zeros(6, dtype=torch.float64))
    assert (diagnostics.idempotence(shrink, shrink(corrupted), corrupted) > 0.1).all()
    half = torch.full((6,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(diagnostics.jacobian_idempotence(shrink, x, directions), half)
    # Idempotent, but along other lines than the normals of its range.
    oblique = basis() @ torch.linalg.pinv(rand(20, SIZE, seed=4) @ basis()) @ rand(20, SIZE, seed=4)
    torch.testing.assert_close(oblique @ oblique, oblique)
    assert (diagnostics.jacobian_symmetry(linear(oblique), x, directions) < 0.9).all()
    restored = linear(oblique)(corrupted)
    assert (diagnostics.conservation(restored, P(corrupted), corrupted) > 1).all()


def test_recovery_conservation_and_locality_of_plain_maps():
    x, corrupted, masks = data()
    one, zero = torch.ones(6, dtype=torch.float64), torch.zeros(6, dtype=torch.float64)
    # Copying repairs nothing, repairing everything changes what was corrupted, only there.
    torch.testing.assert_close(diagnostics.recovery(corrupted, x, corrupted), one)
    torch.testing.assert_close(diagnostics.conservation(corrupted, x, corrupted), zero)
    torch.testing.assert_close(diagnostics.recovery(x, x, corrupted), zero)
    torch.testing.assert_close(diagnostics.conservation(x, x, corrupted), one)
    torch.testing.assert_close(diagnostics.locality(x, corrupted, masks), zero)
    inside = torch.where(masks, 1.0, 0.25)
    torch.testing.assert_close(diagnostics.locality(corrupted + inside, corrupted, masks), 0.25 * one)


def test_jacobian_products_of_a_network_against_finite_differences():
    torch.manual_seed(0)
    autoencoder = SDCAutoencoder((16, 16), widths=(3, 4, 5), sdc_layers=1, sdc_width=3).double().eval()
    x, u, v = torch.rand(3, 2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    forward, backward = diagnostics.jacobian_products(autoencoder, x, u)
    with torch.no_grad():
        step = 1e-7
        difference = (autoencoder(x + step * u) - autoencoder(x - step * u)) / (2 * step)
    torch.testing.assert_close(forward, difference, atol=1e-8, rtol=1e-3)
    # <J v, u> = <v, J' u>
    other, _ = diagnostics.jacobian_products(autoencoder, x, v)
    assert float((other * u).sum()) == pytest.approx(float((v * backward).sum()), rel=1e-9)
