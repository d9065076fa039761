# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Images to draw from in each step of the tuning."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from torch import nn

from anomalib_ssl.image_files import read_image
from anomalib_ssl.models.st_ssad.unlabeled import MOST_IMAGES, UnlabeledImages
from anomalib_ssl.training.images.clean import CleanTrainingImages, test_augmentations

logger = logging.getLogger(__name__)


class ImagePool:
    """Images in memory as uint8.

    Args:
        batches: Images in batches (B, C, H, W), values in [0, 1]; of the first 4096 of them.

    Raises:
        ValueError: If sizes differ, or there are no images.

    Example:
        >>> import torch
        >>> pool = ImagePool([torch.rand(3, 3, 8, 8), torch.rand(2, 3, 8, 8)])
        >>> len(pool), pool.draw(4).shape
        (5, torch.Size([4, 3, 8, 8]))
    """

    def __init__(self, batches: Iterable[torch.Tensor]) -> None:
        stored: list[torch.Tensor] = []
        for batch in batches:
            stored.append(batch.mul(255).round_().clamp_(0, 255).to(torch.uint8))
            if sum(map(len, stored)) >= MOST_IMAGES:
                break
        sizes = {tuple(one.shape[1:]) for one in stored}
        if len(sizes) != 1:
            msg = f"Images must all have one size after pre-processing, got {sorted(sizes)}."
            raise ValueError(msg)
        self.images = torch.cat(stored)[:MOST_IMAGES]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def draw(self, count: int) -> torch.Tensor:
        """Draw ``count`` images without replacement, or all if there are fewer: (B, C, H, W), values in [0, 1]."""
        order = torch.randperm(len(self.images), device=self.images.device)
        return self.images[order[:count]].float().div_(255)

    def batches(self, size: int) -> Iterator[torch.Tensor]:
        """Go through all images, in batches (B, C, H, W) of floats in [0, 1]."""
        for part in self.images.split(size):
            yield part.float().div_(255)


class Pools(NamedTuple):
    """What a tuning draws from: normal images, and unlabelled ones."""

    train: ImagePool
    unlabeled: ImagePool


def read_pools(
    unlabeled: UnlabeledImages, trainer: Trainer, pre_processor: nn.Module | None, device: torch.device
) -> Pools:
    """Read training images and unlabelled ones as :func:`read_unlabeled` does, and say in the log which these are."""
    by = f"The augmentation is tuned with {unlabeled.description}, without labels."
    if unlabeled.transductive:
        logger.warning(
            "%s This run is TRANSDUCTIVE: do not compare its results with those of models that have not seen the test "
            "images.",
            by,
        )
    else:
        logger.info(by)
    clean = CleanTrainingImages(trainer, pre_processor, device)
    return Pools(ImagePool(clean), read_unlabeled(unlabeled.paths, trainer, pre_processor, device))


def read_unlabeled(
    paths: Sequence[str], trainer: Trainer, pre_processor: nn.Module | None, device: torch.device
) -> ImagePool:
    """Read images as test images are seen: files are opened by path, no dataset that knows labels is asked.

    Args:
        paths: Image files.
        trainer: A Trainer whose data is set up.
        pre_processor: anomalib's pre-processor, whose transform the images get.
        device: Where the images shall be.

    Returns:
        The images.

    Raises:
        ValueError: If sizes differ after pre-processing.
    """
    transform = getattr(pre_processor, "transform", None)
    augmentations = test_augmentations(trainer, transform)

    def read(path: str) -> torch.Tensor:
        image: Any = read_image(path)
        if augmentations is not None:
            image = augmentations(image)
        image = torch.as_tensor(image).unsqueeze(0).to(device)
        return image if transform is None else transform(image)

    return ImagePool(read(path) for path in paths)
