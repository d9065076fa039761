# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Random filters: what they compute, that they are always the same, and what their map tells."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from anomalib_ssl.scoring import Places, RandomFilters, Scorer


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def layers(filters):
    return [getattr(filters, f"filters_{number}").double().numpy() for number in range(filters.count)]


def by_hand(image, weights):
    """Correlation, absolute values, means of windows of 4 x 4 pixels; the last three maps on the middle one's grid.

    And the three maps, of which the images may be one, that begin one earlier.
    """
    features = 4 * image
    maps = [features]
    for weight in weights:
        features = np.abs(
            [sum(correlate(c, w, mode="constant") for c, w in zip(features, one, strict=True)) for one in weight]
        )
        padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (4, 4), axis=(1, 2))[:, ::2, ::2]
        features = windows.mean(axis=(3, 4))
        maps.append(features)
    return {"filters": on_the_middle_one(*maps[-3:]), "fine_filters": on_the_middle_one(*maps[-4:-1])}


def on_the_middle_one(fine, middle, coarse):
    fine = fine.reshape(len(fine), middle.shape[1], 2, middle.shape[2], 2).mean(axis=(2, 4))
    coarse = torch.nn.functional.interpolate(torch.from_numpy(coarse)[None], middle.shape[1:], mode="bilinear")[0]
    return np.concatenate([fine, middle, coarse.numpy()])


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (128, 144)])
def test_features_equal_those_by_hand(size):
    filters, images = RandomFilters(size), rand(2, 3, *size)
    seen = filters(images)
    for number, image in enumerate(images.double().numpy()):
        expected = by_hand(image, layers(filters))
        assert seen.keys() == expected.keys()
        for name, features in expected.items():
            np.testing.assert_allclose(seen[name][number].numpy(), features, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "grid"),
    [((32, 32), (8, 8)), ((64, 96), (16, 24)), ((128, 128), (16, 16)), ((240, 320), (30, 40)), ((256, 256), (16, 16))],
)
def test_the_number_of_places_hardly_depends_on_the_size(size, grid):
    features = RandomFilters(size)(rand(1, 3, *size))
    assert features["filters"].shape[-2:] == grid
    assert features["fine_filters"].shape[-2:] == (2 * grid[0], 2 * grid[1])


@torch.no_grad()
def test_filters_are_the_same_whatever_the_generator_and_travel_with_the_state():
    torch.manual_seed(1)
    first = RandomFilters((64, 64))
    state = torch.random.get_rng_state()
    second = RandomFilters((64, 64))
    assert torch.equal(torch.random.get_rng_state(), state)
    images = rand(2, 3, 64, 64)
    assert torch.equal(first(images)["filters"], second(images)["filters"])
    second.filters_1.zero_()
    assert not torch.equal(first(images)["filters"], second(images)["filters"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(images)["filters"], second(images)["filters"])
    assert not list(first.parameters())


@torch.no_grad()
def test_filters_are_the_same_whatever_the_default_data_type(double_by_default):
    expected = RandomFilters((32, 32)).filters_0
    double_by_default()
    assert torch.equal(RandomFilters((32, 32)).filters_0, expected)


def test_even_light_is_not_seen_and_contrast_is_a_factor():
    of = RandomFilters((192, 192))

    def filters(images):
        return of(images)["filters"]

    images = rand(2, 3, 192, 192) / 2
    inner = (..., slice(7, -7), slice(7, -7))
    grey = filters(torch.full((1, 3, 192, 192), 0.7))[inner]
    assert grey.abs().max() < 1e-3 * filters(images).mean()
    torch.testing.assert_close(filters(images / 4), filters(images) / 4)
    torch.testing.assert_close(filters(images + 0.25)[inner], filters(images)[inner], rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["filters", "fine_filters"])
def test_a_scorer_with_filters_finds_what_no_network_told(name):
    def network(images, names):
        raise AssertionError(names)

    size = (64, 64)
    names = f"{name}_max", name
    scorer = Scorer({}, size, *names, names, filters=RandomFilters(size))
    # A pattern that lies alike in each image, with some noise.
    normal = 0.5 * rand(1, 3, 64, 64) + 0.1 * rand(24, 3, 64, 64, seed=1)
    scorer.fit(normal[:20].split(8), network)
    sound, changed = normal[20:], normal[20:].clone()
    changed[..., 16:28, 36:48] = changed[..., 16:28, 36:48].flip(3)
    scored = scorer(changed, network)
    assert scored.pred_score.min() > scorer(sound, network).pred_score.max()
    for one in scored.anomaly_map:
        row, column = divmod(int(one.argmax()), 64)
        assert 12 <= row < 32
        assert 32 <= column < 52


@torch.no_grad()
def test_filters_and_features_together_tell_what_neither_tells_alone():
    # A network that says how strong the pattern of an image is, or, in place of that, the contrary.
    strong = torch.tensor([True, False]).repeat(30).reshape(-1, 1, 1, 1)
    pattern, noise = rand(1, 3, 64, 64) - 0.5, rand(60, 3, 64, 64, seed=1)
    images = 0.5 + torch.where(strong, 0.3, 0.1) * pattern + 0.02 * noise
    rows = torch.linspace(-1, 1, 8).sign().reshape(1, 1, 8, 1).expand(-1, 2, 8, 8)
    contrary = False

    def network(batch, names):
        assert names == {"features"}
        says = (batch.std(dim=(1, 2, 3), keepdim=True) > 0.06) ^ contrary
        return {"features": torch.where(says, rows, -rows)}

    filters = RandomFilters((64, 64))
    parts = {
        "alone": Places("features", (2, 8, 8), contrast=False),
        "together": filters.places("filters+features", beside=2),
    }
    names = "together_max", "together"
    scorer = Scorer(parts, (64, 64), *names, names, filters=filters)
    scorer.fit(images[:40].split(8), network)
    sound, maps = scorer(images[40:], network), scorer.candidates(images[40:], network)
    contrary = True
    changed = scorer.candidates(images[40:], network)
    torch.testing.assert_close(changed["filters"], maps["filters"])
    torch.testing.assert_close(changed["alone"], maps["alone"], rtol=0.05, atol=0.05)
    assert scorer(images[40:], network).pred_score.min() > sound.pred_score.max() + 0.5


def test_without_filters_there_is_no_such_map():
    with pytest.raises(ValueError, match="score"):
        Scorer({}, (64, 64), "filters_max", "filters", ("filters_max", "filters"))
