# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Collapse of projections: how it is measured, and warned about once."""

import logging

import pytest
import torch

from anomalib_ssl.models.dynamic_local_augmentation.collapse import CollapseMonitor, spread


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_spread_of_spread_and_collapsed_vectors():
    assert float(spread(rand(2000, 128))) == pytest.approx(1, abs=0.02)
    assert float(spread(torch.ones(10, 128))) == 0
    near = torch.ones(100, 128) + 0.05 * rand(100, 128)
    assert float(spread(near)) < 0.1


def test_collapse_is_warned_about_once(caplog):
    monitor = CollapseMonitor(interval=5)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            monitor.update(torch.tensor(0.9))
        assert caplog.records == []
        for _ in range(20):
            monitor.update(torch.tensor(0.05))
    (record,) = caplog.records
    assert "collapsed" in record.getMessage()
    assert "0.05" in record.getMessage()
