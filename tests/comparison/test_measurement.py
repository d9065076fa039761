# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Speed and memory."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from anomalib.data import MVTecAD
from torch import nn

from anomalib_ssl.comparison import measurement
from anomalib_ssl.comparison.measurement import num_parameters, throughput
from anomalib_ssl.models import CutPaste


class Sleeper(nn.Module):
    """Takes a set time for an image and another one for a call."""

    def __init__(self, image: float, call: float) -> None:
        super().__init__()
        self.image, self.call = image, call
        self.batches: list[int] = []
        self.now = 0.0

    def forward(self, images):
        assert torch.is_inference_mode_enabled()
        assert not self.training
        self.batches.append(len(images))
        self.now += self.call + self.image * len(images)
        return images


def measured(monkeypatch, sleeper, count):
    """Measure on a clock that only the model moves."""
    monkeypatch.setattr(measurement, "time", SimpleNamespace(perf_counter=lambda: sleeper.now))
    wrapper = nn.Module()
    wrapper.model, wrapper.device = sleeper, torch.device("cpu")
    return throughput(wrapper, torch.zeros(count, 3, 2, 2))


def test_images_per_second_one_by_one_and_in_batches(monkeypatch):
    sleeper = Sleeper(image=0.1, call=0.4)
    assert measured(monkeypatch, sleeper, 4) == pytest.approx({1: 2.0, 4: 5.0})
    assert set(sleeper.batches) == {1, 4}


def test_a_call_of_more_than_a_second_is_made_once(monkeypatch):
    sleeper = Sleeper(image=2.0, call=0.0)
    assert measured(monkeypatch, sleeper, 3) == pytest.approx({1: 0.5, 3: 0.5})
    assert sleeper.batches == [1, 3]


def test_batches_that_would_take_minutes_are_left_out(monkeypatch):
    sleeper = Sleeper(image=50.0, call=0.0)
    assert measured(monkeypatch, sleeper, 3) == pytest.approx({1: 0.02})


def test_peak_memory_sees_what_is_gone_again():
    # In a process of its own: what else is in memory may be paged out by the system meanwhile.
    code = """
import torch
from anomalib_ssl.comparison.measurement import PeakMemory
torch.zeros(2**26).fill_(1)  # 256 MiB that must not count
watch = PeakMemory(torch.device("cpu"))
before = watch.mib()
torch.ones(2**25)
print(before is None or watch.mib() - before)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()[-1]
    if told == "True":
        pytest.skip("this system does not tell")
    assert 100 < float(told) < 160


def test_test_images_are_as_the_network_sees_them_and_always_the_same(mvtec_root):
    datamodule = MVTecAD(root=mvtec_root, category="plate", num_workers=0)
    datamodule.setup()
    model = CutPaste(backbone="resnet10t", image_size=32)
    images = measurement.test_images(model, datamodule, 11)
    assert images.shape == (11, 3, 32, 32)
    torch.testing.assert_close(images[8:], images[:3], msg="eight images repeat")
    assert len({image.sum().item() for image in images}) == 8
    torch.testing.assert_close(measurement.test_images(model, datamodule, 3), images[:3])


def test_parameters_are_those_of_the_torch_model():
    wrapper = nn.Module()
    wrapper.model, wrapper.loss = nn.Linear(3, 4), nn.Linear(100, 100)
    assert num_parameters(wrapper) == 16
