# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A network that was probed is as it was before."""

import pytest
import torch
from torch import nn

from anomalib_ssl.models.components import probing


def test_every_part_has_its_mode_back():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.Dropout(0.5)))
    network[1][0].eval()  # frozen
    modes = [part.training for part in network.modules()]
    images = torch.rand(2, 3, 8, 8)
    with probing(network):
        assert not any(part.training for part in network.modules())
        seen = network(images)
        assert torch.equal(network(images), seen)
    assert not seen.requires_grad
    assert [part.training for part in network.modules()] == modes == [True, True, True, False, True]
    assert network[1][0].num_batches_tracked == 0
    assert network(images).requires_grad


def test_modes_come_back_after_an_error():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.5).eval())
    with pytest.raises(RuntimeError, match="channels"), probing(network):
        network(torch.rand(2, 4, 8, 8))
    assert [part.training for part in network.modules()] == [True, True, False]
    assert torch.is_grad_enabled()
