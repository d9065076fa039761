# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Ensembles of CutPaste models against their members alone."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_ssl import CutPaste, CutPastePatch
from anomalib_ssl.models.cutpaste import CutPasteEnsemble, CutPasteModel, CutPastePatchModel
from anomalib_ssl.scoring import Moments, NotFittedError, Standardizer

SMALL = {"backbone": "test_efficientnet", "image_size": 64, "visualizer": False}


def rand_images(num=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 3, 64, 64, generator=generator) * torch.rand(num, 1, 1, 1, generator=generator)


def make_member(mode):
    if mode == "image":
        # Of their networks alone: random filters are the same in all.
        alone = {"score": "normed_places_top", "heat_map": "normed_places"}
        return CutPasteModel("test_efficientnet", image_size=(64, 64), **alone)
    return CutPastePatchModel((64, 64), "test_efficientnet", "windows_max", "windows", stride=16)


@pytest.fixture(scope="module", params=["image", "patch"])
def ensemble(request) -> CutPasteEnsemble:
    torch.manual_seed(0)
    ensemble = CutPasteEnsemble([make_member(request.param) for _ in range(3)]).eval()
    ensemble.fit(rand_images(10, seed=1).split(4))
    return ensemble


@torch.no_grad()
def test_scores_and_maps_are_means_of_the_members_ones(ensemble):
    found = ensemble(rand_images())
    results = [member(rand_images()) for member in ensemble.members]
    for kind in ("pred_score", "anomaly_map"):
        expected = sum(getattr(result, kind) for result in results) / 3
        torch.testing.assert_close(getattr(found, kind), expected)
        assert not torch.allclose(getattr(results[0], kind), expected, rtol=0.01)


@torch.no_grad()
def test_members_score_held_out_images_on_a_common_scale(ensemble):
    again = copy.deepcopy(ensemble)
    again.fit([rand_images(10, seed=1)], [rand_images(12, seed=7)])
    for member in again.members:
        scored = member(rand_images(12, seed=7))
        for values in (scored.pred_score, scored.anomaly_map):
            # Scores are the arsinh of what has a mean of 0 and a standard deviation of 1.
            assert abs(values.sinh().mean()) < 1e-2
            assert abs(values.sinh().std(correction=0) - 1) < 1e-2


@torch.no_grad()
def test_fitting_again_forgets_the_first_fit(ensemble):
    again = copy.deepcopy(ensemble)
    again.fit([rand_images(8, seed=5)])
    again.fit(rand_images(10, seed=1).split(4))
    torch.testing.assert_close(again(rand_images()).pred_score, ensemble(rand_images()).pred_score)


@torch.no_grad()
def test_a_fit_that_breaks_off_leaves_nothing_to_score_with(ensemble):
    again = copy.deepcopy(ensemble)
    passes = []

    class Interrupted:
        def __iter__(self):
            passes.append(1)
            yield from rand_images(10, seed=5).split(4)
            # The first member's features are fitted by then, its scores are being looked through.
            if len(passes) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        again.fit(Interrupted())
    with pytest.raises(NotFittedError, match=r"Scorer|Standardizer"):
        again(rand_images())


@torch.no_grad()
def test_state_dict_round_trip(ensemble):
    loaded = CutPasteEnsemble([make_member("image" if "Patch" not in repr(ensemble) else "patch") for _ in range(3)])
    loaded.eval().load_state_dict(ensemble.state_dict())
    for found, expected in zip(loaded(rand_images()), ensemble(rand_images()), strict=True):
        assert (found is None and expected is None) or torch.equal(found, expected)


def test_members_are_different_and_none_is_an_error():
    ensemble = CutPaste(ensemble=3, seed=0, **SMALL).model
    weights = [member.backbone.network.conv_stem.weight for member in ensemble.members]
    heads = [member.head[0].weight for member in ensemble.members]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(weights[first], weights[second])
        assert not torch.allclose(heads[first], heads[second])
    with pytest.raises(ValueError, match="members"):
        CutPasteEnsemble([])
    with pytest.raises(ValueError, match="ensemble"):
        CutPaste(ensemble=0, **SMALL)


@pytest.mark.parametrize(("kind", "arguments"), [(CutPaste, {}), (CutPastePatch, {"crop_size": 32})])
def test_each_member_learns_as_if_alone(kind, arguments, monkeypatch):
    torch.manual_seed(0)
    model = kind(ensemble=2, **arguments, **SMALL).train()
    alone = copy.deepcopy(list(model.model.members))
    monkeypatch.setattr(kind, "trainer", SimpleNamespace(global_step=0), raising=False)
    monkeypatch.setattr(model, "log", lambda *args, **kwargs: None)
    images = rand_images(4)

    torch.manual_seed(1)
    views = [model.views(images) for _ in range(2)]
    torch.manual_seed(1)
    loss = model.training_step(SimpleNamespace(image=images))
    loss.backward()

    # Views of its own for each.
    assert not torch.equal(views[0][0], views[1][0])
    losses = []
    for member, network, (pasted, labels) in zip(model.model.members, alone, views, strict=True):
        losses.append(nn.functional.cross_entropy(network(pasted), labels))
        losses[-1].backward()
        for (name, found), expected in zip(member.named_parameters(), network.parameters(), strict=True):
            assert (found.grad is None) == (expected.grad is None), name
            if expected.grad is not None:
                torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-6, msg=name)
        for (name, found), expected in zip(member.named_buffers(), network.buffers(), strict=True):
            torch.testing.assert_close(found, expected, msg=name)
    assert any(parameter.grad.abs().max() > 1e-3 for parameter in alone[1].parameters() if parameter.grad is not None)
    torch.testing.assert_close(loss, sum(losses))


def fitted_to(*parts):
    moments = Moments(1)
    for part in parts:
        moments.update(part.reshape(-1, 1))
    standardize = Standardizer()
    standardize.fit(moments)
    return standardize


def test_standardizer_streams_what_numpy_computes_at_once():
    rng = np.random.default_rng(0)
    # Shapes of all kinds, a mean far from zero, one value alone.
    parts = [rng.normal(1000.0, 3.0, shape) for shape in ((5,), (2, 1, 7, 3), (1,), (400,))]
    standardize = fitted_to(*(torch.tensor(part, dtype=torch.float32) for part in parts))
    values = np.concatenate([part.astype(np.float32).astype(np.float64).ravel() for part in parts])
    assert int(standardize.num_fitted) == values.size
    np.testing.assert_allclose(float(standardize.mean), values.mean(), rtol=1e-6)
    np.testing.assert_allclose(float(standardize.deviation), values.std(), rtol=1e-4)
    probe = torch.tensor([990.0, 1010.0])
    expected = (probe.numpy() - values.mean()) / values.std()
    np.testing.assert_allclose(standardize(probe).numpy(), expected, rtol=1e-3)


def test_standardizer_keeps_sums_of_millions_of_scores():
    # In float32 the mean of so many values far from zero is off by more than their deviation.
    scores = 1000 + 0.01 * torch.randn(50, 40_000, generator=torch.Generator().manual_seed(0))
    standardize = fitted_to(*scores)
    values = scores.double()
    assert float(standardize.mean) == np.float32(values.mean())
    assert float(standardize.deviation) == pytest.approx(float(values.std(correction=0)), rel=1e-6)


@pytest.mark.parametrize("value", [2.0, 0.0, 0.1])
def test_standardizer_without_spread_only_shifts(value):
    standardize = fitted_to(torch.full((7,), value))
    torch.testing.assert_close(standardize(torch.tensor([value, 5.0])), torch.tensor([0.0, 5.0 - value]))
