# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Identities of the loss."""

import numpy as np
import pytest
import torch

from anomalib_ssl.models.autoencoder_projection.loss import ProjectionLoss, region_losses


def inputs(batch=4, side=12):
    generator = torch.Generator().manual_seed(0)
    reconstruction, target = torch.rand(2, batch, 3, side, side, generator=generator)
    masks = torch.rand(batch, 1, side, side, generator=generator) < torch.linspace(0.05, 0.7, batch).view(-1, 1, 1, 1)
    return reconstruction, target, masks


def test_regions_against_numpy():
    reconstruction, target, masks = inputs()
    clean, masked = region_losses(reconstruction, target, masks)
    for i in range(4):
        error = ((reconstruction[i] - target[i]).double().numpy() ** 2).transpose(1, 2, 0)
        inside = masks[i, 0].numpy()
        assert float(masked[i]) == pytest.approx(error[inside].mean(), rel=1e-5)
        assert float(clean[i]) == pytest.approx(error[~inside].mean(), rel=1e-5)
    expected = np.mean((0.9 * clean + 0.1 * masked).numpy())
    assert float(ProjectionLoss(0.1)(reconstruction, target, masks)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("filled", "weight"), [(False, 0.9), (True, 0.1)])
def test_a_region_without_pixels_contributes_nothing(filled, weight):
    reconstruction, target, _ = inputs()
    reconstruction.requires_grad_()
    loss = ProjectionLoss(0.1)(reconstruction, target, torch.full((4, 1, 12, 12), filled))
    torch.testing.assert_close(loss, weight * torch.nn.functional.mse_loss(reconstruction, target))
    loss.backward()
    assert reconstruction.grad.isfinite().all()


def test_terms_do_not_depend_on_the_area():
    masks = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    masks[0, :, :2, :2] = True
    masks[1, :, :8, :8] = True
    reconstruction = torch.where(masks, 0.5, 0.1).expand(-1, 3, -1, -1)
    clean, masked = region_losses(reconstruction, torch.zeros_like(reconstruction), masks)
    torch.testing.assert_close(masked, torch.full((2,), 0.25))
    torch.testing.assert_close(clean, torch.full((2,), 0.01))


def test_full_precision_under_autocast():
    reconstruction, target, masks = inputs()
    expected = ProjectionLoss()(reconstruction.bfloat16().float(), target, masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = ProjectionLoss()(reconstruction.bfloat16(), target, masks)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"masked_weight": -0.1}, "masked_weight"),
        ({"masked_weight": 1.1}, "masked_weight"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        ProjectionLoss(**arguments)
