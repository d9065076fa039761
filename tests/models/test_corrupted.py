# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What models that restore images are shown."""

import pytest
import torch

from anomalib_ssl.augmentations import LocalCorruption
from anomalib_ssl.models.components import corrupt


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_the_images_gets_blended_patches(share):
    # Each image has one colour, and nothing is corrupted otherwise: what changes comes of another image.
    images = torch.linspace(0.1, 0.9, 40).view(40, 1, 1, 1).expand(40, 3, 32, 32).contiguous()
    torch.manual_seed(0)
    corrupted, masks = corrupt(images, LocalCorruption(p=0), share)
    touched = masks.flatten(1).any(dim=1).float().mean()
    assert touched == pytest.approx(share, abs=0.25)
    assert share in (touched, 0.5)
    assert torch.equal(torch.where(masks, images, corrupted), images)
