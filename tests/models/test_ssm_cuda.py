# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM on a GPU: a host that never waits in training, and the results of the CPU."""

from types import SimpleNamespace

import pytest
import torch

from anomalib_ssl import SSM
from anomalib_ssl.models.ssm.loss import SSMLoss
from anomalib_ssl.models.ssm.masking import random_masks, random_partition

pytestmark = pytest.mark.gpu


def rand_images():
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def make(**kwargs) -> SSM:
    return SSM(widths=(8, 16, 16), image_size=64, seed=0, visualizer=False, **kwargs)


@pytest.fixture
def no_synchronisation():
    """Make whatever lets the host wait for the device an error, once the fixture's value is called."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("half", [False, True])
def test_no_host_synchronisation_in_a_training_step(half, no_synchronisation, monkeypatch):
    model = make().cuda().train()
    logged = {}
    monkeypatch.setattr(model, "log", lambda name, value, **kwargs: logged.update({name: value}))
    monkeypatch.setattr(model, "log_dict", lambda values, **kwargs: logged.update(values))
    batch = SimpleNamespace(image=rand_images().cuda())

    def step():
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            loss = model.training_step(batch)
        loss.backward()

    step()
    no_synchronisation()
    for _ in range(3):
        step()
    torch.cuda.set_sync_debug_mode("default")
    assert len(logged) == 5
    assert all(value.isfinite() for value in logged.values())


def test_seed_decides_the_masks():
    masks = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        masks.append(random_masks((64, 64), (2, 4, 8), device="cuda"))
    assert masks[0].device.type == "cuda"
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


def test_loss_and_errors_are_those_of_the_cpu(monkeypatch):
    # Convolutions round to ten bits otherwise.
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    images, model = rand_images(), make(refinement_passes=1).eval()
    names = frozenset({"refined", "gradient", "plain"})
    with torch.no_grad():
        expected = model.model.evidence(images, names)
        result = model.cuda().model.evidence(images.cuda(), names)
    for name in names:
        torch.testing.assert_close(result[name].cpu(), expected[name], atol=1e-4, rtol=1e-3)
    model.fit_statistics([images.cuda()], [images.cuda()])
    assert model(images.cuda()).pred_score.isfinite().all()
    generator = torch.Generator().manual_seed(0)
    masks = random_partition((64, 64), 4, generator=generator)
    arguments = (images, torch.rand(3, *images.shape, generator=generator), masks.expand(-1, 4, -1, -1, -1), masks)
    on_device = SSMLoss()(*(argument.cuda() for argument in arguments))
    for value, other in zip(SSMLoss()(*arguments), on_device, strict=True):
        torch.testing.assert_close(value, other.cpu(), atol=1e-5, rtol=1e-4)
