# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The trial: a simulated scorer's curve is recovered from planted images, and what the post-processor says is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from anomalib.data import InferenceBatch
from anomalib.post_processing import PostProcessor
from scipy.special import logit
from torchvision.io import write_png

from anomalib_ssl.qualification import trial as trials
from anomalib_ssl.qualification.localisation import locate
from anomalib_ssl.qualification.pairs import compare
from anomalib_ssl.qualification.planting import grid
from anomalib_ssl.qualification.record import ALL, fit_curves, make_record
from anomalib_ssl.qualification.rendering import html
from anomalib_ssl.qualification.scores import own_threshold
from anomalib_ssl.qualification.sound import Sound, SoundImages

SIZES, A90, SLOPE = (5.0, 8.0, 12.0, 18.0, 26.0), 15.0, 4.0


class Simulated(torch.nn.Module):
    """Sees how far a stain reaches in a flat image; its scores scatter like a logistic variable."""

    def __init__(self, seed):
        super().__init__()
        self.generator = np.random.default_rng(seed)

    def forward(self, images):
        changed = (images - images[..., :1, :1]).abs().amax(dim=1) > 1e-3
        reach = [float(torch.pdist(one.nonzero().float()).max()) + 1 if one.any() else 1e-2 for one in changed]
        noise = torch.from_numpy(self.generator.logistic(size=len(reach)))
        return InferenceBatch(pred_score=SLOPE * torch.tensor(reach).log() + noise)


def simulated(seed):
    model = Simulated(seed)
    return SimpleNamespace(
        model=model, pre_processor=None, post_processor=None, device=torch.device("cpu"), eval=model.eval
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flat")
    for number in range(4):
        write_png(torch.full((3, 64, 64), 100 + 10 * number, dtype=torch.uint8), str(folder / f"{number}.png"))
    return Sound(SoundImages(sorted(folder.glob("*.png"))), "four flat images")


def test_a_simulated_scorer_is_recovered_from_images(sound, monkeypatch):
    value = SLOPE * np.log(A90) - logit(0.9)
    fixed = trials.threshold(np.array([value]), 0.5)
    monkeypatch.setattr(trials, "threshold", lambda scores, rate: fixed)
    defects = grid(["stain"], SIZES, [0.2], 24, 64)
    trial = trials.run({"simulated": simulated(0)}, sound, defects, 0.05)
    pod = fit_curves(trial)["simulated", "stain", "size", 0.2]
    assert (pod.ninety.low or 0) <= A90 * 1.15
    assert (pod.ninety.high or 64) >= A90 / 1.15
    assert pod.ninety.value == pytest.approx(A90, rel=0.3)


def test_a_family_that_cannot_be_planted_is_left_out_of_the_page(sound):
    defects = grid(["stain", "missing part"], SIZES, [0.2], 2, 64)
    trial = trials.run({"simulated": simulated(0)}, sound, defects, 0.05)
    assert sum(trial.left_out.values()) == 10
    curves = fit_curves(trial)
    assert {family for _, family, _, _ in curves} == {ALL, "stain"}
    settings = {"families": ["stain", "missing part"], "sizes": SIZES, "contrasts": [0.2], "repeats": 2, "seed": 0}
    settings |= {"false_alarms": 0.05, "pixel_size": 0.1, "ckpt_paths": {}}
    record = make_record(trial, sound, curves, settings) | {"real": {}, "checkpoints": {}}
    from anomalib_ssl.qualification.figures import draw

    page = html(record, draw(curves), [], "<b>title</b>")
    assert "missing part 10" in page
    assert "&lt;b&gt;title" in page
    with pytest.raises(ValueError, match="none of the 10 defects could be planted"):
        trials.run({"simulated": simulated(0)}, sound, defects[10:], 0.05)


@pytest.mark.parametrize("sensitivity", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("state", [(0.0, 10.0, 6.0), (0.0, 10.0, float("nan")), (float("nan"), float("nan"), 6.0)])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_own_threshold_is_what_the_post_processor_does(sensitivity, state, normalised):
    post = PostProcessor(image_sensitivity=sensitivity, enable_normalization=normalised)
    post.image_min.fill_(state[0])
    post.image_max.fill_(state[1])
    post._image_threshold.fill_(state[2])
    found = own_threshold(SimpleNamespace(post_processor=post))
    scores = torch.tensor([found - 0.01, found + 0.01], dtype=torch.float32)
    assert post(InferenceBatch(pred_score=scores)).pred_label.tolist() == [False, True]


def test_no_post_processor_has_no_threshold():
    assert own_threshold(SimpleNamespace(post_processor=None)) is None
    assert own_threshold(SimpleNamespace(post_processor=PostProcessor(enable_thresholding=False))) is None


def test_location_is_measured_at_the_size_of_the_maps():
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[10, 10] = True  # a pixel is not lost on the way to a map of a quarter of the side
    heat = torch.zeros(16, 16)
    heat[2, 2] = 1
    assert locate([heat], [mask]).auroc == 1
    assert locate([1 - heat], [mask]).auroc == 0
    assert locate([heat, torch.zeros(8, 8)], [mask, mask]).count == 2


def test_equal_models_differ_by_nothing():
    hits, sources = np.arange(30) % 3 == 0, np.arange(30) % 5
    pair = compare(hits, hits, sources)
    assert (pair.both, pair.first, pair.second, pair.neither) == (10, 0, 0, 20)
    assert (pair.difference, pair.low, pair.high) == (0, 0, 0)
    swapped = compare(hits, ~hits, sources)
    assert compare(~hits, hits, sources).difference == -swapped.difference


def test_of_one_image_there_is_no_interval():
    hits = np.arange(30) % 3 == 0
    pair = compare(hits, ~hits, np.zeros(30, int))
    assert (pair.low, pair.high) == (None, None)
    assert pair.difference == pytest.approx(1 / 3)


def test_few_images_widen_the_interval():
    rng = np.random.default_rng(0)
    bad = rng.random(5) < 0.5
    sources = np.repeat(np.arange(5), 40)
    first, second = bad[sources], np.ones(200, bool)
    clustered, spread = compare(first, second, sources), compare(first, second, np.arange(200))
    assert clustered.high - clustered.low > 2 * (spread.high - spread.low)
