# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The PIL way in worker processes, as a training loop would run it."""

from collections.abc import Callable

import torch
from PIL.Image import Image
from torch.utils.data import DataLoader, Dataset

LOADER_BATCH = 16
"""Images per batch of the loader: small, so that what waits in shared memory stays small."""

BATCHES_PER_WORKER = 8
"""Work of one pass, enough that its start and its end do not matter."""


class ViewsOfImages(Dataset[torch.Tensor]):
    """Augments one of a few PIL images whenever it is asked.

    Args:
        images: The images, used in turns.
        views: From an image to tensors.
        length: Number of images in one pass.
    """

    def __init__(self, images: list[Image], views: Callable[[Image], torch.Tensor], length: int) -> None:
        self.images = images
        self.views = views
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.views(self.images[index % len(self.images)])


class LoaderPass:
    """One pass through a loader with worker processes, which live on between passes and are idle there.

    Args:
        images: PIL images.
        views: From an image to tensors.
        workers: Number of processes, at least 1.
        device: Where the tensors go.
    """

    def __init__(self, images: list[Image], views: Callable[[Image], torch.Tensor], workers: int, device: str) -> None:
        self.length = workers * BATCHES_PER_WORKER * LOADER_BATCH
        self.device = device
        self.loader = DataLoader(
            ViewsOfImages(images, views, self.length),
            batch_size=LOADER_BATCH,
            num_workers=workers,
            persistent_workers=True,
            pin_memory=device == "cuda",
            multiprocessing_context="fork",  # the views are functions without a name, which cannot be pickled
        )

    def __call__(self) -> None:
        """Make the views of ``length`` images."""
        for batch in self.loader:
            batch.to(self.device, non_blocking=True)
