# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Which images form which batch: a pure function of the seed and the number of the pass."""

import math
from dataclasses import dataclass

import torch

from anomalib_ssl.training.seeds import hashed


@dataclass(frozen=True)
class BatchOrder:
    """Batches of passes over a set of images, each pass in an order of its own and without replacement.

    A tail of a single image joins the batch before it, so that the last batch may hold ``batch_size`` + 1 images; a set
    smaller than ``batch_size`` makes one batch. Several processes share one order: each takes every ``replicas``-th
    image of it, padded from its start so that all have equally many.

    Args:
        num_images: Number of images, at least 1.
        batch_size: Images per batch of one process, at least 1.
        shuffle: Whether passes are shuffled; otherwise images come by index.
        rank: Number of this process, from 0.
        replicas: Number of processes.
    """

    num_images: int
    batch_size: int
    shuffle: bool = True
    rank: int = 0
    replicas: int = 1

    @property
    def images_per_pass(self) -> int:
        """Number of images that this process sees in a pass."""
        return math.ceil(self.num_images / self.replicas)

    def __len__(self) -> int:
        """Number of batches in a pass, at least 1."""
        batches, tail = divmod(self.images_per_pass, self.batch_size)
        return max(batches + (tail > 1), 1)

    def bounds(self, batch: int) -> slice:
        """Where batch number ``batch`` lies in :meth:`indices`."""
        last = batch == len(self) - 1
        return slice(batch * self.batch_size, None if last else (batch + 1) * self.batch_size)

    def indices(self, seed: int, number: int) -> torch.Tensor:
        """Image indices of this process in the order of one pass.

        Args:
            seed: Seed of the run, at least 0, the same in all processes.
            number: Number of the pass, from 0.

        Returns:
            Indices in [0, ``num_images``), on the host. Shape (``images_per_pass``,).
        """
        order = permutation(self.num_images, seed, number) if self.shuffle else torch.arange(self.num_images)
        total = self.images_per_pass * self.replicas
        return order.repeat(math.ceil(total / self.num_images))[:total][self.rank :: self.replicas]


def permutation(count: int, seed: int, number: int) -> torch.Tensor:
    """One of a seed's series of random orders.

    It leaves torch's global generators alone.

    Args:
        count: Number of indices.
        seed: Seed of the series, at least 0.
        number: Which order of the series, from 0.

    Returns:
        The indices 0 to ``count`` - 1 on the host. Shape (``count``,).
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(hashed(seed, number)))
