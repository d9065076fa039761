# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How well planted defects are told, beside scikit-learn and NumPy."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_ssl.scoring.choice import Measured, auroc, moments_of


@pytest.mark.parametrize("scale", [1, 1e-9, 1e9])
@pytest.mark.parametrize("shift", [0, -3])
def test_auroc_equals_sklearn(scale, shift):
    generator = torch.Generator().manual_seed(0)
    abnormal = torch.rand(500, generator=generator) < 0.2
    # Rounded, so that some values are equal.
    values = ((torch.randn(500, generator=generator) + abnormal).mul(4).round() + shift) * scale
    expected = roc_auc_score(abnormal.numpy(), values.numpy())
    assert 0.6 < expected < 0.95
    assert auroc(values, abnormal) == pytest.approx(expected, abs=1e-6)
    assert auroc(-values, abnormal.tolist()) == pytest.approx(1 - expected, abs=1e-6)


def test_auroc_of_equal_values_is_a_half():
    assert auroc(torch.full((6,), 3.0), [True, False, False, True, True, False]) == 0.5


def test_images_that_were_not_changed_are_no_defects():
    generator = torch.Generator().manual_seed(0)
    sound = Measured.of({"score": torch.randn(part, generator=generator)} for part in (5, 3))
    changed = Measured()
    for part in (4, 6):
        masks = torch.zeros(part, 1, 8, 8, dtype=torch.bool)
        masks[::2, :, 2:4, 3:7] = True
        maps = torch.randn(part, 1, 8, 8, generator=generator) + masks
        changed.add({"score": torch.randn(part, generator=generator) + 1, "map": maps}, masks)
    assert changed.has_defects
    normal = torch.cat(sound.values["score"])
    defects = torch.cat([scores[::2] for scores in changed.values["score"]])
    labels = len(normal) * [0] + len(defects) * [1]
    expected = roc_auc_score(labels, torch.cat([normal, defects]).numpy())
    assert changed.image_auroc(sound, "score") == pytest.approx(expected, abs=1e-6)
    pixels = [torch.cat(each).flatten().numpy() for each in (changed.masks, changed.values["map"])]
    assert changed.pixel_auroc("map") == pytest.approx(roc_auc_score(*pixels), abs=1e-6)


def test_nothing_changed_is_no_defect():
    measured = Measured()
    assert not measured.has_defects
    measured.add({}, torch.zeros(2, 1, 4, 4, dtype=torch.bool))
    assert not measured.has_defects


def test_moments_of_all_values_equal_numpy():
    batches = torch.rand(11, 1, 4, 5, generator=torch.Generator().manual_seed(0)).split(4)
    moments = moments_of(batches)
    values = torch.cat(batches).double().numpy()
    np.testing.assert_allclose(moments.mean, values.mean(), rtol=1e-12)
    np.testing.assert_allclose(moments.covariance(), values.var(), rtol=1e-10)
    alone = moments_of([torch.tensor([3.0])])
    alone.require_samples()
    assert (alone.mean.item(), alone.covariance().item()) == (3, 0)
