# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The two levels of ST-SSAD's tuning: second-order gradients, batch norm, and a planted defect that is found again."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations import SoftPatch
from anomalib_ssl.models.st_ssad.augmentation import TunableAugmentation
from anomalib_ssl.models.st_ssad.bilevel import inner_step, outer_loss, tell_apart
from anomalib_ssl.models.st_ssad.image_pool import ImagePool
from anomalib_ssl.models.st_ssad.network import Detector
from anomalib_ssl.models.st_ssad.validation_loss import validation_loss


class TinyDetector(nn.Module):
    """Strided convolutions, and whatever smooth function between them, so that finite differences exist."""

    def __init__(self, width=16, depth=3, activation=nn.ReLU, batch_norm=True):
        super().__init__()
        layers, channels = [], 3
        for level in range(depth):
            layers.append(nn.Conv2d(channels, width * 2**level, 3, 2, 1, bias=False))
            channels = width * 2**level
            layers += [nn.BatchNorm2d(channels)] if batch_norm else []
            layers.append(activation())
        self.body, self.head = nn.Sequential(*layers), nn.Linear(channels, 2)

    def forward(self, images, embed=False):
        features = self.body(images - 0.5).mean(dim=(2, 3))
        return F.normalize(features, dim=1) if embed else self.head(features)


def images(count, seed, size=32, dtype=torch.float32):
    """Smooth noise."""
    generator = torch.Generator().manual_seed(seed)
    smooth = F.interpolate(0.4 + 0.4 * torch.rand(count, 3, 4, 4, generator=generator), size=size, mode="bicubic")
    return (smooth + 0.03 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1).to(dtype)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_second_order_gradient_equals_finite_differences(batch_norm):
    torch.manual_seed(0)
    detector = TinyDetector(4, 2, nn.Tanh, batch_norm).double()
    augmentation = TunableAugmentation("cutdiff").double()
    with torch.no_grad():
        augmentation.raw.copy_(torch.tensor([0.3, 0.8, 0.4]))
    normal, train, unlabeled = (images(6, seed, 12, torch.float64) for seed in range(3))

    def loss(raw, second_order=True):
        # The same random places each time.
        torch.manual_seed(0)
        inner, outer = augmentation(normal, raw), augmentation(train[:3], raw)
        # A large rate, so that the indirect part is not small.
        step = inner_step(detector.train(), normal, inner, rate=2.0, second_order=second_order)
        return outer_loss(detector.eval(), step, train, outer, unlabeled)

    raw = augmentation.raw.detach().clone().requires_grad_()
    (second,) = torch.autograd.grad(loss(raw), raw)
    (first,) = torch.autograd.grad(loss(raw, second_order=False), raw)
    step = 1e-5
    with torch.no_grad():
        shifts = step * torch.eye(3, dtype=torch.float64)
    numeric = torch.stack([(loss(raw + shift) - loss(raw - shift)) / (2 * step) for shift in shifts]).detach()
    torch.testing.assert_close(second, numeric, rtol=1e-4, atol=1e-7)
    assert loss(raw, second_order=False).item() == pytest.approx(loss(raw).item(), rel=1e-12)
    assert (first - numeric).norm() > 0.05 * numeric.norm()


def test_inner_step_equals_sgd():
    torch.manual_seed(0)
    detector = Detector("test_resnet")
    normal, augmented = images(4, 0), images(4, 1)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    step = inner_step(detector.train(), normal, augmented, rate=0.1, weight_decay=0.01)
    # The module is as it was, running statistics included.
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())

    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1, weight_decay=0.01)
    logits = detector(torch.cat([normal, augmented]))
    loss = F.cross_entropy(logits, torch.tensor([0] * 4 + [1] * 4))
    loss.backward()
    optimizer.step()
    expected = {name: value.clone() for name, value in detector.state_dict().items()}
    detector.load_state_dict(before)
    step.write_to(detector)
    assert step.loss == pytest.approx(loss.item(), rel=1e-5)
    for name, value in detector.state_dict().items():
        torch.testing.assert_close(value, expected[name], atol=1e-5, rtol=1e-4)
    assert int(detector.state_dict()["backbone.network.bn1.num_batches_tracked"]) == 1
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in detector.parameters())


@pytest.mark.parametrize("second_order", [False, True])
def test_outer_loss_leaves_running_statistics_and_weights_alone(second_order):
    torch.manual_seed(0)
    detector, augmentation = TinyDetector(4, 2), TunableAugmentation("cutout")
    pictures = images(6, 0)
    step = inner_step(detector.train(), pictures, augmentation(pictures), 0.1, second_order)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    others, augmented = images(6, 1), augmentation(pictures[:3])
    loss = outer_loss(detector.eval(), step, pictures, augmented, others)
    loss.backward(inputs=[augmentation.raw])
    assert augmentation.raw.grad.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(parameter.grad is None for parameter in detector.parameters())
    # What the module computes once it has the weights of the step.
    detector.load_state_dict({**before, **{name: value.detach() for name, value in step.weights.items()}})
    expected = validation_loss(*[detector(one, embed=True) for one in (pictures, augmented, others)])
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)


def tune(planted, start, seed, updates=110, warmup=40, second_order=True):
    """Tune a patch's area by images of which half have a black blob of a planted area; the last area is returned."""
    torch.manual_seed(seed)
    train, unlabeled = images(150, seed), images(150, seed + 1000)
    unlabeled[:75] = SoftPatch("cutdiff", area=planted)(unlabeled[:75])[0]
    pools = ImagePool([train]), ImagePool([unlabeled])
    detector = TinyDetector()
    augmentation = TunableAugmentation("cutdiff", area=(0.005, 0.3))
    augmentation.raw.data[0] = start
    descent = torch.optim.SGD(detector.parameters(), lr=0.03, momentum=0.9)
    adam = torch.optim.Adam(augmentation.parameters(), lr=0.1)
    areas = []

    for update in range(updates):
        normal = pools[0].draw(16)
        detector.train()
        if update < warmup:
            descent.zero_grad()
            tell_apart(detector(torch.cat([normal, augmentation(normal).detach()])))[0].backward()
            descent.step()
            continue
        step = inner_step(detector, normal, augmentation(normal), 0.03, second_order)
        augmented = augmentation(pools[0].draw(24))
        loss = outer_loss(detector.eval(), step, pools[0].draw(48), augmented, pools[1].draw(48))
        adam.zero_grad()
        loss.backward(inputs=[augmentation.raw])
        adam.step()
        step.write_to(detector)
        areas.append(augmentation.described()["area"])
    return sum(areas[-20:]) / 20


@pytest.mark.parametrize(("start", "second_order"), [(1.5, True), (-1.5, False)])
def test_planted_size_is_found_again(start, second_order):
    """Where the tuning leads to is nearer by half, on a logarithmic scale, than where it begins."""
    planted = 0.08
    begin = 0.005 * 60 ** torch.tensor(start).sigmoid().item()
    found = tune(planted, start, seed=0, second_order=second_order)
    assert abs(math.log(found / planted)) < 0.5 * abs(math.log(begin / planted))
