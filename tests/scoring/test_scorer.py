# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The scorer with networks whose answers are known: what it chooses, and what its scores are beside NumPy's."""

import copy

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from anomalib_ssl.scoring import (
    Errors,
    GaussianDensity,
    GradCam,
    NotFittedError,
    Pixels,
    Places,
    Scorer,
    image_number,
)

SIZE = (32, 32)


def flat_images(count, seed=0, size=SIZE):
    """Images of a grey background, hardly noisy."""
    return 0.5 + 0.001 * torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed))


def telling(images, names):
    """One kind of evidence shows what differs from the background, the other is noise made of the last digits."""
    del names
    return {
        "shown": (images - 0.5005).abs().mean(dim=1, keepdim=True),
        "noise": (images * 1e4).frac().mean(dim=1, keepdim=True),
    }


def make(kinds=("noise", "shown"), size=SIZE, **arguments):
    return Scorer({kind: Errors(kind) for kind in kinds}, size, **arguments)


def fitted(scorer, network=telling, held_out=40):
    known = flat_images(held_out, seed=1, size=scorer.size).split(16) if held_out else ()
    scorer.fit(flat_images(24, size=scorer.size).split(10), network, known)
    return scorer


def ranks(values):
    return values.flatten().argsort(stable=True)


@pytest.mark.parametrize("size", [SIZE, (128, 192)])
def test_what_tells_planted_defects_is_chosen(size):
    scorer = fitted(make(size=size))
    score, heat_map = scorer.chosen
    assert score.startswith("shown_")
    assert heat_map == "shown"
    assert list(scorer.judged_scores) == scorer.score_names
    assert scorer.judged_scores[score] == max(scorer.judged_scores.values()) > 0.95
    # Also where maps are thinned, they lie where the masks do.
    assert scorer.judged_maps["shown"] > 0.95
    assert abs(scorer.judged_maps["noise"] - 0.5) < 0.05
    # And it tells defects that were not planted.
    images = flat_images(6, seed=2, size=size)
    images[3:, :, 4:14, 8:20] -= 0.2
    scored = scorer(images, telling)
    assert scored.pred_score[3:].min() > scored.pred_score[:3].max() + 1
    masks = torch.zeros(3, 1, *size)
    masks[:, :, 4:14, 8:20] = 1
    assert roc_auc_score(masks.flatten(), scored.anomaly_map[3:].flatten()) == 1


@pytest.mark.parametrize(("finer", "seen"), [(1, 1.0), (2, 0.25), (4, 1 / 16), (8, 1 / 64)])
def test_evidence_on_a_finer_grid_counts_in_all_its_places(finer, seen):
    met = []

    class Both(Errors):
        def forward(self, evidence):
            met.append(evidence)
            return evidence[:, 1:]

    cells = torch.eye(finer**2).view(-1, finer, finer)
    fine = torch.zeros(finer**2, 1, 4 * finer, 4 * finer)
    fine[:, 0, finer : 2 * finer, finer : 2 * finer] = cells
    part = Scorer({"both": Both("coarse+fine")}, SIZE)
    part.map("both", {"coarse": torch.zeros(finer**2, 1, 4, 4), "fine": fine})
    assert met[-1].shape == (finer**2, 2, 4, 4)
    assert met[-1][:, 1].sum(dim=(1, 2)).tolist() == pytest.approx([seen] * finer**2)


def test_the_order_of_candidates_does_not_matter():
    one, other = fitted(make()), fitted(make(("shown", "noise")))
    assert one.chosen == other.chosen
    assert one.judged_scores == other.judged_scores
    assert one.judged_maps == other.judged_maps


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"score": "noise_top", "heat_map": "noise"}, ("noise_top", "noise")),
        ({"heat_map": "noise"}, (None, "noise")),
        ({"score": "noise_mean"}, ("noise_mean", "shown")),
    ],
)
def test_what_is_fixed_is_obeyed_whatever_planted_defects_say(arguments, expected):
    free, fixed = fitted(make()), fitted(make(**arguments))
    assert fixed.chosen == (expected[0] or free.chosen[0], expected[1])
    assert fixed.judged_scores == free.judged_scores


def test_without_held_out_images_the_defaults_are_taken():
    assert fitted(make(), held_out=0).chosen == ("noise_max", "noise")
    scorer = fitted(make(defaults=("shown_mean", "shown"), heat_map="noise"), held_out=0)
    assert scorer.chosen == ("shown_mean", "noise")
    assert scorer.judged_scores == scorer.judged_maps == {}
    # A choice of an earlier fit does not stay.
    assert fitted(fitted(make()), held_out=0).chosen == ("noise_max", "noise")
    # Training images are what is ordinary then.
    values = scorer(flat_images(24), telling).pred_score.sinh()
    assert values.mean().item() == pytest.approx(0, abs=1e-4)
    assert values.std(correction=0).item() == pytest.approx(1, abs=1e-4)


def test_where_nothing_can_be_planted_the_defaults_are_taken():
    scorer = make(defaults=("shown_top", "shown"))
    black = torch.zeros(3, 3, *SIZE)
    scorer.fit([black], telling, [black])
    assert scorer.chosen == ("shown_top", "shown")
    assert scorer.judged_scores == {}
    assert scorer(flat_images(2), telling).pred_score.isfinite().all()


@pytest.mark.parametrize("number", ["max", "top", "mean"])
def test_scores_and_maps_are_monotone_and_standardised_by_held_out_images(number):
    scorer = fitted(make(score=f"shown_{number}", heat_map="shown"))
    held_out = flat_images(40, seed=1)
    for values in (scorer(held_out, telling).pred_score, scorer(held_out, telling).anomaly_map):
        raw = values.double().sinh()
        assert raw.mean().item() == pytest.approx(0, abs=1e-3)
        assert raw.std(correction=0).item() == pytest.approx(1, abs=1e-3)
    images = flat_images(30, seed=2)
    images[15:] += torch.linspace(0, 0.3, 15).view(-1, 1, 1, 1)
    scored = scorer(images, telling)
    maps = scorer.map("shown", telling(images, frozenset()))
    assert torch.equal(ranks(scored.pred_score), ranks(image_number(maps, number)))
    labels = torch.arange(30) >= 15
    assert roc_auc_score(labels, scored.pred_score) == roc_auc_score(labels, image_number(maps, number))
    # Rounding may let neighbours tie, but never change places.
    in_order = scored.anomaly_map.flatten()[ranks(maps)]
    assert (in_order.diff() >= 0).all()
    assert len(in_order.unique()) > 0.9 * len(maps.unique())


def test_a_candidate_that_is_named_twice_counts_twice():
    joined = fitted(make(score="shown_max+noise_mean+noise_mean", heat_map="noise+shown+shown"))
    first, second = (
        fitted(make(score="shown_max", heat_map="noise")),
        fitted(make(score="noise_mean", heat_map="shown")),
    )
    images = flat_images(5, seed=3)
    given, one, two = (scorer(images, telling) for scorer in (joined, first, second))
    for name in ("pred_score", "anomaly_map"):
        torch.testing.assert_close(getattr(given, name), (getattr(one, name) + 2 * getattr(two, name)) / 3)


def test_candidates_that_are_joined_give_the_mean_of_both():
    joined = fitted(make(score="shown_max+noise_mean", heat_map="noise+shown"))
    first, second = (
        fitted(make(score=score, heat_map=heat_map))
        for score, heat_map in (("shown_max", "noise"), ("noise_mean", "shown"))
    )
    images = flat_images(5, seed=3)
    given, one, two = (scorer(images, telling) for scorer in (joined, first, second))
    for name in ("pred_score", "anomaly_map"):
        torch.testing.assert_close(getattr(given, name), (getattr(one, name) + getattr(two, name)) / 2)
    # A state that was fitted for them serves each, and the other way round; what was judged keeps its names.
    assert list(joined.judged_scores) == joined.score_names
    first.load_state_dict(joined.state_dict())
    joined.load_state_dict(two_state := second.state_dict())
    torch.testing.assert_close(first(images, telling).pred_score, one.pred_score)
    torch.testing.assert_close(joined(images, telling).pred_score, given.pred_score)
    assert two_state.keys() == first.state_dict().keys()


def test_the_choice_may_fall_on_joined_defaults():
    def two_halves(images, names):
        del names
        error = (images - 0.5005).abs().mean(dim=1, keepdim=True)
        left = torch.arange(SIZE[1]) < SIZE[1] // 2
        # Only both see every defect.
        return {"left": error * left, "right": error * ~left}

    arguments = {"kinds": ("left", "right"), "defaults": ("left_max+right_max", "left+right")}
    scorer = fitted(make(**arguments), two_halves)
    assert scorer.chosen[1] == "left+right"
    again = make(**arguments)
    again.load_state_dict(scorer.state_dict())
    assert again.chosen == scorer.chosen
    assert scorer.judged_maps["left+right"] > max(scorer.judged_maps[name] for name in ("left", "right"))
    fixed = make(**arguments, score="left_max", heat_map="right")
    fixed.load_state_dict(scorer.state_dict())
    assert fixed.judged_scores == scorer.judged_scores
    assert fixed.chosen == ("left_max", "right")


def test_huge_distances_stay_finite_and_small():
    scorer = fitted(make(score="shown_mean", heat_map="shown"))
    far = [scorer.score_scales["shown_mean"], scorer.map_scales["shown"]]
    for scale, take in zip(far, ("pred_score", "anomaly_map"), strict=True):
        # In units of what the part divides by.
        value = (scale.mean + 1e6 * scale.deviation) * scorer.maps["shown"].mean
        evidence = {"shown": value.expand(2, 1, *SIZE)}
        found = getattr(scorer(flat_images(2), lambda images, names, evidence=evidence: evidence), take)
        torch.testing.assert_close(found, torch.full_like(found, np.arcsinh(1e6)), rtol=1e-3, atol=0)
        assert found.max() < 20


def test_scores_equal_numpy():
    """All steps at once: means over kinds, statistics of pixels, numbers, standardisation."""

    def network(images, names):
        assert names <= {"errors"}
        return {"errors": images[:, :2]}

    generator = torch.Generator().manual_seed(0)
    train, known, test = (torch.rand(count, 3, 16, 16, generator=generator) for count in (12, 9, 5))

    def errors(images):
        return (images[:, :2] / train[:, :2].mean(axis=(0, 2, 3), keepdims=True)).mean(axis=1)

    def pixels(images):
        return ((images[:, :2] - train[:, :2].mean(axis=0)) / train[:, :2].std(axis=0)).mean(axis=1)

    def top(maps):
        return np.sort(maps.reshape(len(maps), -1), axis=1)[:, -26:].mean(axis=1)

    def standardized(of, images):
        return np.arcsinh((of(images) - of(known).mean()) / of(known).std())

    scorer = Scorer(
        {"errors": Errors("errors", 2), "pixels": Pixels("errors", (16, 16), 1, 2)}, (16, 16), "pixels_top", "errors"
    )
    scorer.fit(train.split(5), network, known.split(2))
    scored, maps = scorer(test, network), scorer.candidates(test, network)
    train, known, test = (each.double().numpy() for each in (train, known, test))
    np.testing.assert_allclose(scored.anomaly_map[:, 0], standardized(errors, test), rtol=1e-3, atol=1e-4)
    expected = standardized(lambda images: top(pixels(images)), test)
    np.testing.assert_allclose(scored.pred_score, expected, rtol=1e-3, atol=1e-4)
    assert list(maps) == ["errors", "pixels"]
    assert torch.equal(maps["errors"], scored.anomaly_map)
    np.testing.assert_allclose(maps["pixels"][:, 0], standardized(pixels, test), rtol=1e-3, atol=1e-4)


def features(images, names):
    """Features of places, and their mean."""
    del names
    places = torch.nn.functional.avg_pool2d(images, 8)
    places = torch.cat([places, places.square()], dim=1)
    return {"places": places, "pooled": places.mean(dim=(2, 3))}


def feature_scorer(**arguments):
    density = GaussianDensity(6, l2_normalize=False)
    maps = {"places": Places("places", (6, 4, 4)), "gradcam": GradCam("places", density)}
    for part in maps.values():
        part.sigma = 2.0
    return Scorer(maps, SIZE, density=density, **arguments)


def rand(count, seed=0):
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def test_density_is_the_mahalanobis_distance_of_sklearn():
    scorer = feature_scorer(score="density")
    train, known, test = rand(60), rand(20, 1), rand(9, 2)
    scorer.fit(train.split(25), features, known.split(8))
    x, held_out, y = (features(images, ())["pooled"].double().numpy() for images in (train, known, test))
    reference = LedoitWolf().fit(x)
    known_distances, distances = (np.sqrt(reference.mahalanobis(each)) for each in (held_out, y))
    expected = np.arcsinh((distances - known_distances.mean()) / known_distances.std())
    np.testing.assert_allclose(scorer(test, features).pred_score, expected, rtol=1e-3, atol=1e-3)


def test_only_evidence_that_is_needed_is_asked_for():
    asked = []

    def network(images, names):
        asked.append(names)
        return features(images, names) | telling(images, names)

    for score, heat_map, needed in (
        ("density", "gradcam", {"pooled", "places"}),
        ("shown_max", "shown", {"shown"}),
        ("density", "noise", {"pooled", "noise"}),
        ("shown_max", "places", {"shown", "places"}),
    ):
        density = GaussianDensity(6)
        maps = {"places": Places("places", (6, 4, 4)), "gradcam": GradCam("places", density)}
        maps |= {kind: Errors(kind) for kind in ("shown", "noise")}
        scorer = Scorer(maps, SIZE, score, heat_map, density=density)
        scorer.fit([rand(9)], network)
        assert asked[-1] == {"pooled", "places", "shown", "noise"}
        scorer(rand(2), network)
        assert asked[-1] == needed
        scorer.candidates(rand(2), network)
        assert asked[-1] == {"places", "shown", "noise"}


@pytest.mark.parametrize(("make_scorer", "network"), [(make, telling), (feature_scorer, features)])
def test_state_dict_carries_the_choice(make_scorer, network):
    scorer, other, images = fitted(make_scorer(), network), make_scorer(), flat_images(5, seed=3)
    other.load_state_dict(scorer.state_dict())
    assert other.chosen == scorer.chosen
    assert other.judged_scores == scorer.judged_scores
    assert other.judged_maps == scorer.judged_maps
    for one in (other, copy.deepcopy(scorer)):
        for found, expected in zip(one(images, network), scorer(images, network), strict=True):
            assert found is expected is None or torch.equal(found, expected)
    # What is fixed overrides what was chosen, and the other choice stays.
    score, heat_map = scorer.score_names[-1], scorer.map_names[0]
    fixed = make_scorer(score=score, heat_map=heat_map)
    fixed.load_state_dict(scorer.state_dict())
    assert fixed.chosen == (score, heat_map)
    half = make_scorer(heat_map=heat_map)
    half.load_state_dict(scorer.state_dict())
    assert half.chosen == (scorer.chosen[0], heat_map)
    # All candidates were fitted.
    scored = fixed(images, network)
    assert torch.equal(scored.anomaly_map, scorer.candidates(images, network)[heat_map])
    # What was judged is what a free one chooses by, whatever was fixed.
    free = make_scorer()
    free.load_state_dict(fitted(make_scorer(score=score, heat_map=heat_map), network).state_dict())
    assert free.chosen == scorer.chosen


@pytest.mark.parametrize("count", [5, 12])
def test_few_images_and_none_held_out_give_scores_of_the_usual_scale(count):
    """Training images lie at nearly the same distance: by their spread any other would be at tens of deviations."""
    maps = {"places": Places("features", (12, 4, 4))}
    scorer = Scorer(maps, SIZE, score="places_max", heat_map="places")

    def network(images, names):
        return {
            "features": torch.nn.functional.adaptive_avg_pool2d(images, 4).repeat(1, 4, 1, 1)
            + images[:, :, ::8, ::8].repeat(1, 4, 1, 1)
        }

    def images(number, seed):
        return torch.rand(number, 3, *SIZE, generator=torch.Generator().manual_seed(seed))

    scorer.fit([images(count, 0)], network)
    found = scorer(images(50, 1), network).pred_score
    assert found.abs().mean() < 2.5


def test_a_density_is_held_once():
    names = [name for name in feature_scorer().state_dict() if "whitening" in name and "places" not in name]
    assert names == ["density.whitening"]


def test_of_equals_the_default_is_chosen_and_a_state_can_be_chosen_from():
    """Which is where a product is so easy that many ways are right about all defects."""

    def easy(images, names):
        evidence = telling(images, names)
        return {"noise": evidence["shown"], "shown": evidence["shown"]}

    scorer = fitted(make(defaults=("shown_mean", "shown")), easy)
    ways = scorer.judged_scores
    assert ways["noise_max"] == ways["shown_mean"] == max(ways.values())
    assert scorer.chosen == ("shown_mean", "shown")
    fixed = fitted(make(score="noise_max", heat_map="noise"))
    free = make()
    free.load_state_dict(fixed.state_dict())
    assert free.chosen == fitted(make()).chosen
    assert free.chosen[0].startswith("shown")


def test_unfitted_it_refuses():
    scorer = make()
    for call in (scorer, scorer.candidates):
        with pytest.raises(NotFittedError, match="Scorer has not been fitted"):
            call(flat_images(2), telling)
    fitted(scorer)
    # So it does after a fit that breaks off.
    for images, message in (([], "need clean images"), ([torch.nan * flat_images(2)], "finite")):
        with pytest.raises(ValueError, match=message):
            scorer.fit(images, telling)
        with pytest.raises(NotFittedError):
            scorer(flat_images(2), telling)


@pytest.mark.parametrize(("make_scorer", "network"), [(make, telling), (feature_scorer, features)])
def test_batches_of_any_division_give_the_same(make_scorer, network):
    train, known, test = rand(24), rand(10, 1), rand(9, 2)
    whole, parts = make_scorer(), make_scorer()
    whole.fit([train], network, [known])
    parts.fit(train.split(7), network, known.split(1))
    for score in whole.score_names:
        whole.chosen = parts.chosen = (score, whole.map_names[-1])
        expected, found = whole(test, network), [parts(images, network) for images in test.split(4)]
        for name in ("pred_score", "anomaly_map"):
            values = torch.cat([getattr(scored, name) for scored in found])
            torch.testing.assert_close(values, getattr(expected, name), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("make_scorer", "network"), [(make, telling), (feature_scorer, features)])
def test_float32_is_close_to_float64(make_scorer, network):
    # Values that both hold exactly, or the noise would be another.
    train, test = ((images * 1024).round() / 1024 for images in (rand(24), rand(9, 1)))
    single, double = make_scorer(), make_scorer().double()
    single.fit([train], network)
    double.fit([train.double()], network)
    for score in single.score_names:
        single.chosen = double.chosen = (score, single.map_names[-1])
        found, expected = single(test, network), double(test.double(), network)
        torch.testing.assert_close(found.pred_score.double(), expected.pred_score, rtol=1e-2, atol=1e-2)
        torch.testing.assert_close(found.anomaly_map.double(), expected.anomaly_map, rtol=1e-2, atol=1e-2)


def test_a_single_image_is_enough():
    scorer = make()
    scorer.fit([flat_images(1)], telling, [flat_images(1, seed=1)])
    scored = scorer(flat_images(3, seed=2), telling)
    assert scored.pred_score.isfinite().all()
    assert scored.anomaly_map.isfinite().all()
    scorer.fit([flat_images(1)], telling)
    assert scorer(flat_images(1), telling).pred_score.item() == pytest.approx(0, abs=1e-6)


def test_maps_are_smoothed_and_enlarged():
    scorer = feature_scorer()
    scorer.fit([rand(20)], features)
    found = scorer.map("places", features(rand(1, 1), ()))
    assert found.shape == (1, 1, *SIZE)
    scorer.maps["places"].sigma = 0.0
    rough = scorer.map("places", features(rand(1, 1), ()))
    assert found.diff(dim=-1).abs().max() < rough.diff(dim=-1).abs().max()
    torch.testing.assert_close(found.mean(), rough.mean(), rtol=0.05, atol=0)


def test_numbers_are_of_maps_before_they_are_smoothed():
    scorer = feature_scorer(score="places_max", heat_map="places")
    scorer.fit([rand(20)], features)
    images = rand(6, 1)
    scored = scorer(images, features)
    scorer.maps["places"].sigma = 0.0
    most = scorer.map("places", features(images, ())).amax(dim=(1, 2, 3))
    torch.testing.assert_close(scored.pred_score, scorer.score_scales["places_max"](most).asinh())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"score": "shown"}, "score must be one of .*'auto', 'noise_max'.* got 'shown'"),
        ({"score": "density"}, "score"),
        ({"heat_map": "shown_max"}, "heat_map"),
    ],
)
def test_bad_arguments_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        make(**arguments)
