# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Augmentations inside Kornia's container, with images and masks."""

import pytest
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, VideoSequential

from anomalib_ssl.augmentations import (
    ColorJitter,
    CutPaste,
    CutPasteScar,
    KorniaAugmentation,
    LocalAugmentation,
    LocalCorruption,
    RandomCrop,
    RandomShift,
    Symmetries,
)

ALL = [CutPaste(), CutPasteScar(), RandomShift(6), ColorJitter()]


def batch():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 48, 48, generator=generator)
    masks = torch.zeros(6, 1, 48, 48)
    masks[:, :, 10:20, 5:15] = 1
    return images, masks


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_container_gives_what_the_augmentation_gives(augmentation):
    images, masks = batch()
    pipeline = AugmentationSequential(KorniaAugmentation(augmentation), data_keys=["input", "mask"])
    torch.manual_seed(0)
    new_images, new_masks = pipeline(images, masks)
    parameters = pipeline._params[0].data
    expected, written = augmentation.apply(images, parameters)
    assert torch.equal(new_images, expected)
    assert torch.equal(new_masks, augmentation.apply_to_masks(masks, parameters))
    if isinstance(augmentation, CutPaste | CutPasteScar):
        assert torch.equal(new_masks, masks.maximum(written.float()))


@pytest.mark.parametrize("augmentation", ALL, ids=lambda a: type(a).__name__)
def test_container_replays_its_parameters(augmentation):
    images, masks = batch()
    pipeline = AugmentationSequential(KorniaAugmentation(augmentation, p=0.5), data_keys=["input", "mask"])
    first = pipeline(images, masks)
    second = pipeline(images, masks, params=pipeline._params)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize(
    "augmentation", [*ALL, RandomCrop(24), LocalAugmentation(), LocalCorruption(p=1.0)], ids=lambda a: type(a).__name__
)
def test_frames_of_a_video_are_augmented_alike(augmentation):
    images, _ = batch()
    pipeline = VideoSequential(KorniaAugmentation(augmentation), data_format="BTCHW", same_on_frame=True)
    torch.manual_seed(0)
    frames = pipeline(images.unsqueeze(1).expand(-1, 3, -1, -1, -1))
    for frame in range(1, 3):
        assert torch.equal(frames[:, frame], frames[:, 0])
    parameters = {name: value[::3] for name, value in pipeline._params[0].data.items() if value.dim()}
    torch.testing.assert_close(frames[:, 0], augmentation.apply(images, parameters)[0])


def test_mask_follows_through_a_chain():
    images, _ = batch()
    blank = torch.zeros(6, 1, 48, 48)
    pipeline = AugmentationSequential(
        KorniaAugmentation(CutPaste(jitter=0.0)),
        RandomHorizontalFlip(p=1.0),
        KorniaAugmentation(CutPasteScar()),
        data_keys=["input", "mask"],
    )
    torch.manual_seed(0)
    new_images, new_masks = pipeline(images, blank)
    unchanged = (new_masks == 0).expand_as(images)
    assert torch.equal(new_images[unchanged], images.flip(-1)[unchanged])
    assert new_masks.mean() > 0.02


def test_probability_gates_image_and_mask_together():
    images = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    pipeline = AugmentationSequential(KorniaAugmentation(CutPaste(), p=0.5), data_keys=["input", "mask"])
    torch.manual_seed(0)
    new_images, new_masks = pipeline(images, torch.zeros(64, 1, 32, 32))
    changed = (new_images != images).flatten(1).any(dim=1)
    assert 16 < changed.sum() < 48
    assert torch.equal(changed, new_masks.flatten(1).any(dim=1))


def test_boolean_masks():
    images, masks = batch()
    augmentation = CutPaste()
    parameters = augmentation.sample(images.shape)
    carried = augmentation.apply_to_masks(masks.bool(), parameters)
    assert carried.dtype == torch.bool
    assert torch.equal(carried, masks.bool() | augmentation.apply(images, parameters)[1])


@pytest.mark.parametrize("key", ["bbox_xyxy", "keypoints"])
def test_boxes_and_keypoints_are_refused_where_content_moves(key):
    images, _ = batch()
    places = torch.tensor([[[5.0, 10.0, 14.0, 19.0]]])[..., : 2 if key == "keypoints" else 4].repeat(6, 1, 1)
    for augmentation in (Symmetries(("horizontal",)), RandomShift(6), RandomCrop(24)):
        pipeline = AugmentationSequential(KorniaAugmentation(augmentation), data_keys=["input", key])
        with pytest.raises(NotImplementedError, match=f"{type(augmentation).__name__} moves images and masks, not"):
            pipeline(images, places)
    pipeline = AugmentationSequential(KorniaAugmentation(CutPaste()), data_keys=["input", key])
    assert torch.equal(pipeline(images, places)[1], places)


@pytest.mark.parametrize("other", [CutPaste, "cutpaste", RandomHorizontalFlip()])
def test_what_is_no_augmentation_is_refused(other):
    with pytest.raises(TypeError, match="augmentation must be an augmentation of this package"):
        KorniaAugmentation(other)
