# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The loss of SSM."""

import pytest
import torch

from anomalib_ssl.losses import gradient_pyramid, gradient_similarity_loss, ssim_map
from anomalib_ssl.models.ssm.loss import SSMLoss
from anomalib_ssl.models.ssm.masking import random_partition


def inputs(batch_size=2):
    generator = torch.Generator().manual_seed(0)
    masks = random_partition((16, 32), 4, 3, generator=generator)
    images = torch.rand(batch_size, 3, 16, 32, generator=generator)
    restored = torch.rand(3, batch_size, 3, 16, 32, generator=generator)
    restored_masks = torch.rand(3, batch_size, 1, 16, 32, generator=generator)
    return images, restored, restored_masks, masks


def test_perfect_restoration_of_hidden_pixels_costs_nothing_whatever_is_made_of_visible_ones():
    images, restored, _, masks = inputs()
    restored = torch.where(masks == 1, restored, images)
    terms = SSMLoss()(images, restored, masks.expand(-1, 2, -1, -1, -1), masks)
    assert torch.stack(terms).abs().max() < 1e-6


def test_terms_are_those_of_the_composite():
    images, restored, restored_masks, masks = inputs()
    terms = SSMLoss()(images, restored, restored_masks, masks)
    composite = sum(restored[i] * (1 - masks[i]) for i in range(3))
    assert terms.l2.item() == pytest.approx(((composite - images) ** 2).mean().item(), rel=1e-5)
    assert terms.ssim.item() == pytest.approx(1 - ssim_map(images, composite).mean().item(), rel=1e-5)
    gms = gradient_similarity_loss(gradient_pyramid(images), gradient_pyramid(composite))
    assert terms.gms.item() == pytest.approx(gms.item(), rel=1e-5)
    # Summed over the masks, not averaged.
    mask = sum(((restored_masks[i] - masks[i]) ** 2).mean() for i in range(3))
    assert terms.mask.item() == pytest.approx(mask.item(), rel=1e-5)
    torch.testing.assert_close(terms.total, 10 * terms.l2 + terms.ssim + terms.gms + terms.mask)


def test_full_precision_under_autocast():
    expected = SSMLoss()(*inputs())
    with torch.autocast("cpu", torch.bfloat16):
        terms = SSMLoss()(*inputs())
    assert terms == expected


def test_gradients_reach_hidden_pixels_and_masks_alone():
    images, restored, restored_masks, masks = inputs()
    restored.requires_grad_()
    restored_masks.requires_grad_()
    SSMLoss()(images, restored, restored_masks, masks).total.backward()
    hidden = (masks == 0).expand_as(restored)
    assert (restored.grad[~hidden] == 0).all()
    assert (restored.grad[hidden] != 0).all()
    assert restored_masks.grad.isfinite().all()
