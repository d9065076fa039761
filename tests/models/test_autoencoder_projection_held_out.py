# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What AutoencoderProjection measures with held-out images."""

import pytest
import torch

from anomalib_ssl import AutoencoderProjection
from anomalib_ssl.augmentations import LocalCorruption

SMALL = {"image_size": 32, "widths": (3, 4, 5), "sdc_layers": 1, "sdc_width": 3, "seed": 0}


def test_held_out_metrics_are_reproducible_and_leave_random_numbers_alone():
    model = AutoencoderProjection(**SMALL)
    images = [torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))]
    state = torch.get_rng_state()
    first, second = model.held_out_metrics(images), model.held_out_metrics(images)
    assert torch.equal(torch.get_rng_state(), state)
    assert first == second
    assert model.model.training
    with pytest.raises(ValueError, match="got none"):
        model.held_out_metrics([])


def test_held_out_metrics_against_a_map_that_repairs_everything():
    from sklearn.metrics import roc_auc_score

    # Maps of images of 32 pixels are not smoothed.
    model = AutoencoderProjection(**SMALL)
    assert model.model.box_size == 1
    images = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    corrupted, masks = LocalCorruption(p=1.0)(images, torch.Generator().manual_seed(0))
    model.model.autoencoder = torch.nn.Identity()
    measured = model.held_out_metrics([images])
    # A copy of the input has no error to find, and loses what the corruption changed.
    assert float(measured["pixel_AUROC"]) == 0.5
    torch.testing.assert_close(measured["loss"], model.loss(corrupted, images, masks))

    class Blend(torch.nn.Module):
        def forward(self, changed):
            return images + 0.1 * (changed - 0.5)

    model.model.autoencoder = Blend()
    measured = model.held_out_metrics([images])
    error = (corrupted - model.model.autoencoder(corrupted)).square().mean(dim=1)
    expected = roc_auc_score(masks.flatten().numpy(), error.flatten().numpy())
    assert float(measured["pixel_AUROC"]) == pytest.approx(expected, abs=1e-4)
