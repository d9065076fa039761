# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Progressive mask refinement with networks whose answers are known."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.models.ssm import SSMModel
from anomalib_ssl.models.ssm.refinement import ProgressiveRefinement
from anomalib_ssl.scoring import ERRORS

SIZE = (64, 64)
DEFECT = (slice(None), slice(None), slice(40, 52), slice(12, 24))


class Oracle:
    """Restores every pixel to the clean image, and notes what it was asked."""

    def __init__(self, clean):
        self.clean, self.calls = clean, []

    def __call__(self, images, masks):
        self.calls.append(masks)
        assert (images[(masks == 0).expand_as(images)] == 0).all()
        return self.clean.expand_as(images)


class Smoother:
    """Fills hidden pixels with a mean of visible ones: errors everywhere, and more of them where more is hidden."""

    def __call__(self, images, masks):
        def mean(values):
            return torch.nn.functional.avg_pool2d(values, 9, stride=1, padding=4)

        return mean(images) / mean(masks).clamp(min=0.01)


def clean_image():
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=SIZE, mode="bicubic").clamp(0, 1)


def with_defect(clean):
    images = clean.clone()
    noise = torch.rand(images[DEFECT].shape, generator=torch.Generator().manual_seed(1))
    images[DEFECT] = noise
    return images


def make(**kwargs):
    own = {"map_sigma": 2.0, **{name: kwargs.pop(name) for name in ("threshold", "ratio") if name in kwargs}}
    refinement = ProgressiveRefinement(SIZE, **{"cells": (2, 4, 8), "refinement_passes": 2, **kwargs})
    vars(refinement).update(own)
    return refinement


def test_planted_defect_is_found_and_the_rest_uncovered_for_good():
    clean = clean_image()
    passes = list(make(refinement_passes=4).passes(torch.cat([clean, with_defect(clean)]), Oracle(clean)))
    regions = [result.uncovered for result in passes]
    assert regions[0].max() == 0
    for before, after in pairwise(regions):
        assert (after >= before).all()
    # The clean image is given free at once, the other one except for the defect.
    assert regions[-1][0].min() == 1
    assert regions[-1][1][DEFECT[1:]].max() == 0
    assert 0.5 < regions[-1][1].mean() < 1
    for result in passes:
        row, column = divmod(int(result.anomaly_map[1, 0].argmax()), SIZE[1])
        assert 40 <= row < 52
        assert 12 <= column < 24
    assert float(passes[-1].anomaly_map[0].max()) < 1e-6


def test_restoring_alone_gives_what_the_first_pass_compares():
    images = with_defect(clean_image()).repeat(2, 1, 1, 1)
    refinement, smoother = make(), Smoother()
    first = next(refinement.passes(images, smoother))
    assert torch.equal(refinement.restored(images, smoother), first.restored)
    with pytest.raises(ValueError, match=r"must be of shape \(B, 3, 64, 64\)"):
        refinement.restored(images[..., :32], smoother)


def test_maps_are_as_specified():
    """Pass by pass against a direct computation, for a network that is neither perfect nor constant.

    A pixel has the lowest error of the passes that hid it.
    """
    images, refinement = (
        with_defect(clean_image()),
        make(refinement_passes=3, threshold=0.1, cells=(2, 8), num_masks=2),
    )
    uncovered, raw = torch.zeros(1, 1, *SIZE), torch.full((1, 1, *SIZE), torch.inf)
    weights = (4 / 68, 64 / 68)
    for number, result in enumerate(refinement.passes(images, Smoother())):
        errors = []
        for scale in range(2):
            masks = [refinement.masks[number, scale, i].maximum(uncovered) for i in range(2)]
            composite = images * masks[0] * masks[1]
            for mask in masks:
                composite = composite + Smoother()(images * mask, mask) * (1 - mask)
            torch.testing.assert_close(result.restored[scale], composite)
            errors.append(gradient_distance_map(gradient_pyramid(images), gradient_pyramid(composite)))
            torch.testing.assert_close(result.errors[scale], errors[scale])
        latest = sum(weight * error for weight, error in zip(weights, errors, strict=True))
        raw = torch.where(uncovered == 1, raw, torch.minimum(raw, latest))
        smooth = ndimage.gaussian_filter(raw[0, 0].double().numpy(), 2.0, truncate=4, mode="nearest")
        np.testing.assert_allclose(result.anomaly_map[0, 0], smooth, atol=1e-6)
        assert torch.equal(result.uncovered, uncovered)
        well = result.anomaly_map[0, 0].numpy() < 0.1
        share = well.reshape(8, 8, 8, 8).mean(axis=(1, 3))
        new = torch.from_numpy((share > 0.8).repeat(8, 0).repeat(8, 1)).float()
        uncovered = uncovered.maximum(new)
    assert 0 < uncovered.mean() < 1
    assert torch.equal(refinement(images, Smoother()), result.anomaly_map)


def test_refinement_never_raises_an_error():
    clean = clean_image()
    images = torch.cat([clean, with_defect(clean)])
    passes = list(make(refinement_passes=3, threshold=0.1).passes(images, Smoother()))
    assert 0 < passes[1].uncovered.mean() < passes[2].uncovered.mean() < 1
    for before, after in pairwise(passes):
        assert (after.anomaly_map <= before.anomaly_map + 1e-6).all()
        assert (after.anomaly_map < before.anomaly_map - 1e-3).any()


def test_images_uncovered_completely_keep_their_errors():
    images = torch.cat([clean_image(), clean_image().flip(-1) * 0.5])
    kept = make(threshold=1.0, refinement_passes=2)(images, Smoother())
    assert torch.equal(kept, make(refinement_passes=1)(images, Smoother()))
    scores = kept.amax(dim=(1, 2, 3))
    assert scores[0] != scores[1]
    assert scores.min() > 0


def test_uncovered_pixels_are_the_images_own():
    images = with_defect(clean_image())
    *_, last = make(refinement_passes=2, threshold=0.1).passes(images, Smoother())
    free = last.uncovered.expand_as(images) == 1
    assert 0 < free.float().mean() < 1
    for restored in last.restored:
        assert torch.equal(restored[free], images[free])
        assert not torch.equal(restored[~free], images[~free])


def test_what_is_wholly_visible_bypasses_the_network():
    clean = clean_image()
    images = torch.cat([clean, with_defect(clean), with_defect(clean.flip(-1))])
    oracle, refinement = Oracle(clean), make()
    refinement.chunk = 4
    refinement(images, oracle)
    assert max(map(len, oracle.calls)) == 4
    # All nine masks of the three images first; then none of the clean image's.
    assert 27 < sum(map(len, oracle.calls)) <= 27 + 18
    assert all((masks == 0).any(dim=3).any(dim=2).all() for masks in oracle.calls)
    # The size of the chunks changes nothing.
    assert torch.equal(refinement(images, Smoother()), make()(images, Smoother()))


def test_one_pass_hides_everything_and_refines_nothing():
    images = with_defect(clean_image())
    (only,) = make(refinement_passes=1).passes(images, Smoother())
    first, *_ = make(refinement_passes=2).passes(images, Smoother())
    assert torch.equal(only.anomaly_map, first.anomaly_map)
    assert ((1 - only.masks).sum(dim=1) == 1).all()


def test_masks_are_always_the_same_and_differ_between_passes():
    assert torch.equal(make().masks, make().masks)
    assert not torch.equal(make().masks[0], make().masks[1])
    assert make().masks.shape == (2, 3, 3, 1, 1, *SIZE)
    boards = make(initial_masks="checkerboard")
    assert boards.masks.shape == (2, 3, 2, 1, 1, *SIZE)
    assert torch.equal(boards.masks[:, :, 0], 1 - boards.masks[:, :, 1])
    assert not make().state_dict()


def test_a_block_is_uncovered_by_its_share_of_well_restored_pixels():
    refinement = make(threshold=0.5, ratio=0.75, cells=(2, 4))
    maps = torch.ones(1, 1, *SIZE)
    maps[..., :4, :3] = 0.0  # exactly three quarters of the block: not above
    maps[..., :4, 4:8] = 0.0
    maps[..., 0, 4] = 0.5  # at the threshold: not below
    uncovered = refinement._restored_well(maps)
    expected = torch.zeros(1, 1, *SIZE)
    expected[..., :4, 4:8] = 1
    assert torch.equal(uncovered, expected)


def test_autocast_changes_little():
    torch.manual_seed(0)
    model, images = SSMModel(SIZE, (4, 8, 8), (16, 32)).eval(), with_defect(clean_image())
    with torch.no_grad():
        full = model.evidence(images, frozenset({"refined"}))["refined"]
        with torch.autocast("cpu", torch.bfloat16):
            half = model.evidence(images, frozenset({"refined"}))["refined"]
    assert not torch.equal(full, half.float())
    torch.testing.assert_close(full, half.float(), atol=0.02, rtol=0)


def test_model_scores_by_the_largest_value_of_its_refined_map_where_told():
    torch.manual_seed(0)
    model = SSMModel(SIZE, (4, 8, 8), (16, 32), refinement_passes=2, score="refined_max", heat_map="refined").eval()
    images = torch.cat([clean_image(), with_defect(clean_image())])
    model.fit([images])
    with torch.inference_mode():
        batch = model(images)
        passes = model.refine(images)
    assert batch.anomaly_map.shape == (2, 1, *SIZE)
    refined = passes[-1].anomaly_map
    torch.testing.assert_close(batch.anomaly_map, model.scorer.map_scales["refined"](refined).asinh())
    most = refined.amax(dim=(1, 2, 3))
    torch.testing.assert_close(batch.pred_score, ((most - most.mean()) / most.std(correction=0)).asinh())
    # The passes are those of the model in another light, too.
    model.exposure.fit([images])
    bright, dark = (model.refine(light * images)[-1].anomaly_map for light in (1.0, 0.5))
    torch.testing.assert_close(dark, bright, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match=r"shape \(B, 3, 64, 64\)"):
        model(images[..., :32])
    with pytest.raises(ValueError, match=r"got \(2, 1, 64, 64\)"):
        model.refine(images[:, :1])
    with pytest.raises(ValueError, match="masks"):
        model.train()(images)


def test_errors_of_the_first_pass_are_what_they_are_called():
    model, images = SSMModel(SIZE, (4, 8, 8), (16, 32)).eval(), torch.cat([with_defect(clean_image()), clean_image()])
    model.network.restore = Smoother()
    restored = next(model.refinement.passes(images, Smoother())).restored.mean(dim=0)
    with torch.no_grad():
        torch.testing.assert_close(model.restore(images), restored)
        model.fit([images])
        evidence = model.evidence(images, frozenset(ERRORS))
    for name, errors in model.errors(images, restored).items():
        torch.testing.assert_close(evidence[name], errors)


@pytest.mark.parametrize(
    ("score", "heat_map", "passes"),
    [("plain_max", "plain", 1), ("pixels_gradient_top", "gradient", 1), ("plain_max", "pixels_refined", 2)],
)
def test_only_what_is_scored_with_is_restored(score, heat_map, passes):
    model = SSMModel(SIZE, (4, 8, 8), (16, 32), score=score, heat_map=heat_map, refinement_passes=2).eval()
    model.refinement.threshold = 0.0
    images, oracle = with_defect(clean_image()), Oracle(clean_image())
    model.network.restore = oracle
    model.fit([clean_image(), images])
    oracle.calls.clear()
    scored = model(images)
    # Two cell sizes and three masks a pass; with this threshold nothing is uncovered.
    assert sum(map(len, oracle.calls)) == passes * 2 * 3
    assert scored.anomaly_map.isfinite().all()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"refinement_passes": 0}, "refinement_passes"),
        ({"initial_masks": "stripes"}, "initial_masks"),
        ({"num_masks": 1}, "num_masks"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        make(**arguments)
