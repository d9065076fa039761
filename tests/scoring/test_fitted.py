# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What everything that is fitted to normal images promises: a score from a whole fit of finite values, or none."""

import copy

import pytest
import torch

from anomalib_ssl.models.dynamic_local_augmentation.deviation import MapDeviation
from anomalib_ssl.scoring import (
    ContrastScale,
    Errors,
    Fitted,
    GaussianDensity,
    LocatedGaussianDensity,
    Moments,
    NotFittedError,
    Pixels,
    Places,
    Scorer,
    Standardizer,
)


def standardizer(standardize, batches):
    standardize.forget()
    moments = Moments(1)
    for batch in batches:
        moments.update(batch)
    standardize.fit(moments)


def in_one_pass(part, batches):
    part.start()
    for batch in batches:
        part.update(batch)
    part.finish()


def image_itself(images, names):
    return dict.fromkeys(names, images)


# What is fitted, the shape of a sample, how to fit, how to score.
CASES = {
    "GaussianDensity": (lambda: GaussianDensity(4), (4,), GaussianDensity.fit, GaussianDensity.__call__),
    "LocatedGaussianDensity": (
        lambda: LocatedGaussianDensity(4, (2, 2), 3),
        (4, 2, 2),
        LocatedGaussianDensity.fit,
        LocatedGaussianDensity.__call__,
    ),
    "Standardizer": (Standardizer, (1,), standardizer, Standardizer.__call__),
    "ContrastScale": (
        lambda: ContrastScale(3),
        (1, 4, 4),
        lambda scale, batches: scale.fit((batch, batch) for batch in batches),
        lambda scale, errors: scale(errors, errors),
    ),
    "Errors": (lambda: Errors("errors", 2), (2, 4, 4), in_one_pass, Errors.__call__),
    "Pixels": (lambda: Pixels("errors", (4, 4), 1), (1, 4, 4), in_one_pass, Pixels.__call__),
    "Places": (lambda: Places("features", (4, 2, 2)), (4, 2, 2), in_one_pass, Places.__call__),
    "normed Places": (lambda: Places("features", (4, 2, 2), False), (4, 2, 2), in_one_pass, Places.__call__),
    "Scorer": (
        lambda: Scorer({"errors": Errors("errors", 3), "pixels": Pixels("errors", (16, 16), 1, 3)}, (16, 16)),
        (3, 16, 16),
        lambda scorer, batches: scorer.fit(batches, image_itself, [torch.linspace(0, 1, 768).view(1, 3, 16, 16)]),
        lambda scorer, images: scorer(images, image_itself).anomaly_map,
    ),
    "MapDeviation": (
        lambda: MapDeviation([(2, 4, 4)]),
        (2, 4, 4),
        lambda maps, batches: in_one_pass(maps, ([batch] for batch in batches)),
        lambda maps, features: maps([features])[0],
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    build, shape, fit, score = CASES[request.param]
    batches = torch.rand(12, *shape, generator=torch.Generator().manual_seed(0)).split(5)
    return build, batches, fit, score


def test_unfitted_it_refuses_to_score_and_says_how_to_mend_it(case):
    build, batches, _, score = case
    part = build()
    assert isinstance(part, Fitted)
    message = f"{type(part).__name__} has not been fitted: train the model, or load a checkpoint .*--ckpt_path"
    with pytest.raises(NotFittedError, match=message):
        score(part, batches[0])
    # Loading an unfitted state does not change that.
    part.load_state_dict(build().state_dict())
    with pytest.raises(NotFittedError):
        score(part, batches[0])


def test_state_dict_carries_the_fit(case):
    build, batches, fit, score = case
    fitted, loaded = build(), build()
    fit(fitted, iter(batches))
    assert fitted.num_fitted == 12
    expected = score(fitted, batches[0])
    assert expected.isfinite().all()
    loaded.load_state_dict(fitted.state_dict())
    assert torch.equal(score(loaded, batches[0]), expected)
    assert torch.equal(score(copy.deepcopy(fitted), batches[0]), expected)
    # A checkpoint that says that it holds none.
    loaded.load_state_dict({**fitted.state_dict(), "num_fitted": torch.tensor(0)})
    with pytest.raises(NotFittedError):
        score(loaded, batches[0])


def test_a_fit_that_breaks_off_leaves_nothing_to_score_with(case):
    build, batches, fit, score = case

    def interrupted():
        yield from batches[:2]
        raise KeyboardInterrupt

    part = build()
    fit(part, iter(batches))
    with pytest.raises(KeyboardInterrupt):
        fit(part, interrupted())
    with pytest.raises(NotFittedError):
        score(part, batches[0])


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(case, value):
    build, batches, fit, score = case
    part = build()
    fit(part, iter(batches))
    with pytest.raises(ValueError, match=r"finite.* has (the )?training diverged"):
        fit(part, iter([*batches, torch.full_like(batches[0], value)]))
    with pytest.raises(NotFittedError):
        score(part, batches[0])


def test_without_samples_there_is_no_fit(case):
    build, _, fit, _ = case
    with pytest.raises(ValueError, match=r"at least|needs? clean images"):
        fit(build(), iter([]))
