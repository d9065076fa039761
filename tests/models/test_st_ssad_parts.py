# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Parts of ST-SSAD: bounded parameters, phases, selection, tuner, trajectory."""

import csv
import math

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import nn

from anomalib_ssl.models.st_ssad.augmentation import AUGMENTATIONS, Bound, TunableAugmentation, canonical
from anomalib_ssl.models.st_ssad.schedule import Phase, TuningSchedule
from anomalib_ssl.models.st_ssad.selection import Judgement, judge, score_spread
from anomalib_ssl.models.st_ssad.torch_model import STSSADModel
from anomalib_ssl.models.st_ssad.trajectory import Trajectory
from anomalib_ssl.models.st_ssad.tuner import Tuner
from anomalib_ssl.models.st_ssad.validation_loss import dsv_criterion, validation_loss
from anomalib_ssl.scoring import NotFittedError


def rand_images(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# The augmentation


@pytest.mark.parametrize("bound", [Bound(0.02, 0.15, logarithmic=True), Bound(-1.0, 3.0)])
def test_parameters_stay_within_their_bounds(bound):
    low, middle, high = bound.value(torch.tensor([-50.0, 0.0, 50.0])).tolist()
    assert (low, high) == pytest.approx(bound[:2])
    assert middle == pytest.approx(math.sqrt(0.02 * 0.15) if bound.logarithmic else 1.0)
    assert bound.raw(float(bound.value(torch.tensor(0.7)))) == pytest.approx(0.7, rel=1e-4)
    assert abs(bound.raw(bound.low)) < 10


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_reach_every_parameter(name):
    augmentation = TunableAugmentation(name)
    augmentation.raw.data += 0.5
    torch.manual_seed(0)
    augmentation(rand_images(4, 3, 24, 24)).square().sum().backward()
    assert (augmentation.raw.grad.abs() > 0).all()


def test_a_tall_patch_is_a_wide_one_turned():
    augmentation = TunableAugmentation("cutout")
    augmentation.set({"area": 0.1, "aspect": 0.5, "angle": 20.0})
    assert augmentation.described() == pytest.approx({"area": 0.1, "aspect": 2.0, "angle": -70.0}, rel=1e-4)
    assert augmentation.in_words() == "area 0.1, aspect 2, angle -70"
    torch.manual_seed(0)
    tall = augmentation(rand_images(3, 3, 32, 32))
    augmentation.set(augmentation.described())
    torch.manual_seed(0)
    assert torch.allclose(tall, augmentation(rand_images(3, 3, 32, 32)), atol=1e-4)
    assert canonical({"angle": math.pi / 2}) == {"angle": pytest.approx(90)}


def test_images_that_are_not_augmented():
    images = rand_images(2, 3, 16, 16)
    assert TunableAugmentation("cutpaste").normal(images) is images
    torch.manual_seed(0)
    resampled = TunableAugmentation("rotation").normal(images)
    assert not torch.equal(resampled, images)
    assert (resampled - images).abs().mean() < 0.3


@pytest.mark.parametrize(("name", "count"), [("cutdiff", 4), ("cutdiff", 1), ("cutdiff", 7), ("rotation", 4)])
def test_starts_differ(name, count):
    augmentation = TunableAugmentation(name)
    starts = augmentation.starts(count)
    assert starts.shape == (count, len(augmentation.bounds))
    assert len({tuple(start) for start in starts.tolist()}) == count
    if name == "rotation":
        angles = [math.degrees(augmentation.values(start)["angle"]) for start in starts]
        assert angles == pytest.approx([-135, -45, 45, 135], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"name": "mixup"}, "augmentation"),
        ({"area": (0.0, 0.1)}, "area"),
        ({"area": (0.1, 0.1)}, "area must leave room"),
        ({"aspect": (2.0, 1.0)}, "aspect"),
        ({"angle": (-270.0, 90.0)}, "angle"),
    ],
)
def test_bad_bounds_are_named(arguments, named):
    with pytest.raises(ValueError, match=named):
        TunableAugmentation(**arguments)


def test_setting_parameters_that_are_not_there_is_an_error():
    with pytest.raises(ValueError, match="area"):
        TunableAugmentation("cutdiff").set({"area": 0.5})
    with pytest.raises(ValueError, match=r"angle must lie in \[-90, 90\], got 100"):
        TunableAugmentation("cutdiff").set({"angle": 100.0})
    with pytest.raises(ValueError, match="rotation has the parameters"):
        TunableAugmentation("rotation").set({"area": 0.1})
    with pytest.raises(TypeError, match="parameters must be a mapping"):
        TunableAugmentation("rotation").set("area")


# The schedule


@pytest.mark.parametrize("total", [1, 2, 3, 7, 40, 999])
@pytest.mark.parametrize("starts", [1, 2, 4])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_phases_cover_the_run_without_gaps(total, starts, share):
    schedule = TuningSchedule(total, starts, share)
    phases = schedule.phases
    assert [phases[0].start, *[phase.stop for phase in phases]] == [*[phase.start for phase in phases], total]
    for update in range(total):
        phase = schedule.at(update)
        assert phase.start <= update < phase.stop
    assert schedule.tunes == (round(total * share) > 0)
    # Every start that is begun is tuned and judged, and one of several begins with a warm start.
    searched = {phase.candidate for phase in phases if phase.name == "search"}
    begun = {phase.candidate for phase in phases if phase.name == "warm start"}
    assert begun == searched or (searched == {0} and not begun)


def test_default_shares():
    phases = TuningSchedule(2000, 4).phases
    assert [phase.stop - phase.start for phase in phases] == [50, 75] * 4 + [500, 1000]
    assert phases[-2].name == "tuning"
    assert TuningSchedule(30, 4).followed == 1
    assert [phases[-1].rate(update) for update in (1000, 1500, 2000)] == pytest.approx([1, 0.5, 0])
    assert phases[-2].rate(999) == 1


# Selection


def test_spread_equals_scikit_learn():
    train, unlabeled = rand_images(21, 4).double(), rand_images(15, 4, seed=1).double()
    unlabeled[:5] += 1
    ratios = []
    for fitted, held_out in ((train[::2], train[1::2]), (train[1::2], train[::2])):
        estimate = LedoitWolf().fit(fitted.numpy())
        normal, mixed = (np.sqrt(estimate.mahalanobis(one.numpy())) for one in (held_out, unlabeled))
        ratios.append(mixed.var() / normal.var())
    assert float(score_spread(train, unlabeled)) == pytest.approx(np.mean(ratios), rel=1e-3)
    assert float(score_spread(3 * train + 1, 3 * unlabeled + 1)) == pytest.approx(np.mean(ratios), rel=1e-3)
    with pytest.raises(ValueError, match="at least 4"):
        score_spread(train[:3], unlabeled)


def test_judgement():
    sets = [rand_images(count, 3, seed=seed) for seed, count in enumerate((8, 4, 8))]
    judgement = judge(*sets, loss="mean_distance")
    assert judgement.loss == pytest.approx(float(validation_loss(*sets)))
    assert judgement.dsv == pytest.approx(float(dsv_criterion(*sets)))
    wide, low = Judgement(2.0, 1.0, 0.0), Judgement(1.0, 0.5, 0.0)
    assert wide.beats(low, "spread")
    assert low.beats(wide, "loss")
    with pytest.raises(ValueError, match="has diverged"):
        judge(sets[0] / 0, *sets[1:], loss="mean_distance")


def test_two_normal_images_are_judged_by_the_loss():
    few = judge(*[rand_images(count, 3, seed=seed) for seed, count in enumerate((2, 1, 2))], loss="mean_distance")
    assert math.isnan(few.spread)
    assert math.isfinite(few.loss)
    assert few.beats(few._replace(loss=few.loss + 1), "spread")
    assert not few.beats(few._replace(loss=few.loss - 1), "spread")


# The tuner


def run(tuner, schedule, start=0, stop=None):
    """Go through updates that add one to weights and parameters."""
    for update in range(start, schedule.total if stop is None else stop):
        phase = schedule.at(update)
        if update == phase.start:
            tuner.begin(phase, schedule.followed)
        with torch.no_grad():
            tuner.detector.weight += 1
            if phase.tunes:
                tuner.augmentation.raw += 1
        tuner.observe(phase, update)
        if phase.name == "search" and update + 1 == phase.stop:
            # The second start is the best.
            tuner.end_candidate(phase.candidate, Judgement([1.0, 3.0, 2.0][phase.candidate], 0.0, 0.0))
    return tuner


def make_tuner():
    detector = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(detector.weight)
    tuner = Tuner(detector, TunableAugmentation("cutdiff"))
    tuner.reset()
    return tuner


def test_tuner_goes_on_with_the_best_start_and_trains_from_the_first_weights():
    schedule = TuningSchedule(60, 3, 0.8)
    assert [phase.stop for phase in schedule.phases] == [3, 8, 11, 16, 19, 24, 48, 60]
    tuner = run(make_tuner(), schedule, stop=48)
    start = tuner.augmentation.starts(3)[1]
    # 8 updates of the start and 24 more, of which 5 and 24 tuned.
    assert tuner.detector.weight.item() == 8 + 24
    torch.testing.assert_close(tuner.augmentation.raw.detach(), start + 5 + 24)
    run(tuner, schedule, start=48)
    assert tuner.detector.weight.item() == 12
    # The mean of the second half of the tuning: updates 13 to 24 of it.
    torch.testing.assert_close(tuner.tuned, start + 5 + 18.5)
    torch.testing.assert_close(tuner.augmentation.raw.detach(), tuner.tuned)


@pytest.mark.parametrize("broken", [2, 3, 10, 16, 23, 24, 30, 47, 48, 55])
def test_tuner_resumes_in_every_phase(broken):
    schedule = TuningSchedule(60, 3, 0.8)
    whole = run(make_tuner(), schedule)
    first = run(make_tuner(), schedule, stop=broken)
    second = make_tuner()
    second.detector.load_state_dict(first.detector.state_dict())
    second.augmentation.load_state_dict(first.augmentation.state_dict())
    second.load_state_dict(first.state_dict())
    run(second, schedule, start=broken)
    assert torch.equal(second.detector.weight, whole.detector.weight)
    torch.testing.assert_close(second.tuned, whole.tuned)
    assert second.judgements == whole.judgements


def test_tuner_follows_a_model_that_is_moved_after_its_checkpoint_was_loaded():
    tuner, resumed = make_tuner(), make_tuner()
    phase = Phase("tuning", None, 0, 4)
    tuner.begin(phase, 1)
    tuner.observe(phase, 2)
    resumed.load_state_dict(tuner.state_dict())
    # As a GPU: what lies there is not added to what lies here.
    resumed.augmentation.to("meta")
    resumed.observe(phase, 3)
    assert resumed._sum.device.type == "meta"
    assert resumed._count == 2


def test_tuner_chooses_by_the_loss_if_asked():
    tuner = make_tuner()
    tuner.selection = "loss"
    for number, loss in enumerate((1.2, 0.9, 1.0)):
        tuner.augmentation.raw.data.fill_(number)
        tuner.end_candidate(number, Judgement(0.0, loss, 0.0))
    tuner.begin(Phase("tuning", None, 6, 7), 3)
    assert torch.equal(tuner.augmentation.raw.data, torch.ones(3))
    with pytest.raises(ValueError, match="selection"):
        Tuner(tuner.detector, tuner.augmentation, "AUROC")


# The trajectory


def test_trajectory_as_a_table_and_a_picture(tmp_path):
    trajectory = Trajectory(("area", "angle"))
    for update in range(6):
        values = {"area": torch.tensor(0.1 * update), "angle": torch.tensor(10.0), "train_loss": torch.tensor(1.0)}
        if update % 2:
            values["validation_loss"] = torch.tensor(0.5)
        trajectory.add(update, 0 if update < 2 else None, values)
    again = Trajectory(("area", "angle"))
    again.load(trajectory.table())
    again.save(tmp_path / "new", "title")
    rows = list(csv.DictReader((tmp_path / "new/tuning.csv").open()))
    assert [row["update"] for row in rows] == list("012345")
    assert [row["candidate"] for row in rows] == ["0"] * 2 + ["best"] * 4
    assert [row["validation_loss"] for row in rows] == ["", "0.5"] * 3
    assert float(rows[3]["area"]) == pytest.approx(0.3)
    assert again.recent("area") == pytest.approx(0.45)
    assert math.isnan(Trajectory(("area",)).recent("area"))
    assert (tmp_path / "new/tuning.png").stat().st_size > 5000


# The torch model


FROM_POOLED = {"backbone": "test_resnet", "score": "density", "heat_map": "gradcam", "map_sigma": 0.0}


def test_scores():
    images = rand_images(12, 3, 32, 32)
    model = STSSADModel(image_size=(32, 32), **FROM_POOLED)
    assert model(images).shape == (12, 2)
    model.eval()
    with pytest.raises(NotFittedError):
        model(images)
    model.fit(images.split(5))
    with torch.no_grad():
        embeddings = model.detector(images, embed=True)
        scored = model(images)
    embeddings = embeddings.double().numpy()
    distances = np.sqrt(LedoitWolf().fit(embeddings).mahalanobis(embeddings))
    expected = np.arcsinh((distances - distances.mean()) / distances.std())
    np.testing.assert_allclose(scored.pred_score, expected, rtol=1e-2, atol=1e-2)
    assert scored.anomaly_map.shape == (12, 1, 32, 32)


def test_map_is_the_gradcam_of_the_score():
    """By backward pass."""
    model = STSSADModel(image_size=(128, 128), **FROM_POOLED).eval()
    model.fit([rand_images(12, 3, 128, 128)])
    images = rand_images(2, 3, 128, 128, seed=1)
    with torch.no_grad():
        expected_activations = model.detector.backbone(images)
    activations = expected_activations.clone().requires_grad_()
    score = model.scorer.density(activations.mean(dim=(2, 3)))
    (gradient,) = torch.autograd.grad(score.sum(), activations)
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True).relu().detach()
    expected = nn.functional.interpolate(cam, size=(128, 128), mode="bilinear")
    assert expected.max() > 0
    with torch.no_grad():
        found = model.scorer.map("gradcam", model.evidence(images, frozenset({"last"})))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
