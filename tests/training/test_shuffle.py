# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The order of training images, as a pure function."""

from itertools import chain

import pytest
import torch

from anomalib_ssl.training.images.shuffle import BatchOrder, permutation


@pytest.mark.parametrize(
    ("num_images", "batch_size", "sizes"),
    [
        (6, 2, [2, 2, 2]),
        (7, 2, [2, 2, 3]),
        (6, 4, [4, 2]),
        (5, 4, [5]),
        (3, 8, [3]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_batches_partition_a_pass_without_a_tail_of_one(num_images, batch_size, sizes):
    order = BatchOrder(num_images, batch_size)
    indices = order.indices(0, 0)
    batches = [indices[order.bounds(batch)].tolist() for batch in range(len(order))]
    assert [len(batch) for batch in batches] == sizes
    assert sorted(chain.from_iterable(batches)) == list(range(num_images))


def test_order_depends_on_seed_and_pass_alone():
    order = BatchOrder(50, 8)
    state = torch.get_rng_state()
    first = order.indices(3, 4)
    torch.rand(7)
    assert torch.equal(order.indices(3, 4), first)
    torch.set_rng_state(state)
    order.indices(3, 4)
    assert torch.equal(torch.get_rng_state(), state)
    others = [order.indices(*key) for key in ((3, 5), (4, 3), (4, 4), (2, 5), (2**64 - 1, 4))]
    assert not any(torch.equal(first, other) for other in others)


def test_every_position_is_equally_likely():
    orders = torch.stack([permutation(4, 0, number) for number in range(2000)])
    counts = torch.stack([(orders == index).sum(0) for index in range(4)])
    # Five standard deviations of a binomial count with mean 500.
    assert (counts - 500).abs().max() < 5 * 19.4


def test_unshuffled_passes_are_in_order():
    order = BatchOrder(5, 2, shuffle=False)
    assert order.indices(0, 0).tolist() == order.indices(9, 7).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("num_images", "replicas"), [(8, 2), (7, 2), (7, 3), (2, 5)])
def test_shards_cover_the_pass_equally(num_images, replicas):
    shards = [BatchOrder(num_images, 2, rank=rank, replicas=replicas) for rank in range(replicas)]
    indices = [shard.indices(0, 1).tolist() for shard in shards]
    assert {len(shard) for shard in shards} == {len(shards[0])}
    assert {len(part) for part in indices} == {-(-num_images // replicas)}
    together = list(chain.from_iterable(indices))
    assert set(together) == set(range(num_images))
    # No image comes twice, but for those that fill up the last shards.
    assert len(together) - num_images == -num_images % replicas
