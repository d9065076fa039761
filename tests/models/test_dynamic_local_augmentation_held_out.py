# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What DynamicLocalAugmentation measures with normal images that were held out."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from anomalib_ssl.augmentations import LocalAugmentation
from anomalib_ssl.models.dynamic_local_augmentation import DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.held_out import augmented_errors, measure, pixel_auroc


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    """A model with statistics, not trained."""
    torch.manual_seed(0)
    model = DynamicLocalAugmentationModel((64, 64), backbone="test_resnet", mc_samples=2, alphas=(2.0, 0.5)).eval()
    model.fit(rand_images(10, 3, 64, 64, seed=7).split(4))
    return model


def test_auroc_equals_scikit_learn():
    masks = torch.rand(5000, generator=torch.Generator().manual_seed(0)) < 0.2
    errors = torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 5 + 3 * masks - 40
    assert float(pixel_auroc(errors, masks)) == pytest.approx(roc_auc_score(masks, errors), abs=1e-5)


@torch.no_grad()
def test_augmented_errors_are_the_same_each_time_and_enough(model):
    images = [rand_images(3, 3, 64, 64), rand_images(2, 3, 64, 64, seed=1)]
    first, second = (augmented_errors(model, images, LocalAugmentation()) for _ in range(2))
    assert len(first[0]) == 35 * 64 * 64
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[2], second[2])
    assert 0.05 < first[2].float().mean() < 0.3
    with pytest.raises(ValueError, match="Held-out images"):
        augmented_errors(model, [], LocalAugmentation())


def test_what_is_measured_is_the_map_and_its_parts(model):
    images = [rand_images(3, 3, 64, 64), rand_images(2, 3, 64, 64, seed=1)]
    distance, uncertainty, masks = augmented_errors(model, images, LocalAugmentation())
    measured = measure(model, images, LocalAugmentation())
    total = 2 * distance + 0.5 * uncertainty
    for name, errors in (("", total), ("distance_", distance), ("uncertainty_", uncertainty)):
        assert float(measured[f"{name}pixel_AUROC"]) == pytest.approx(roc_auc_score(masks, errors), abs=1e-4)
    share = float(0.5 * uncertainty.double().sum() / total.double().sum())
    assert float(measured["uncertainty_share"]) == pytest.approx(share, rel=1e-3)
    assert len(measured) == 4


def test_nothing_is_measured_where_nothing_can_be_changed(model):
    assert measure(model, [torch.zeros(4, 3, 64, 64)], LocalAugmentation()) == {}
