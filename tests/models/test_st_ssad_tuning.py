# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Settings of pastes, and the choice among them by unlabelled images."""

import pytest
import torch

from anomalib_ssl.augmentations import BlendedPatch, ColorJitter, CutPaste, CutPasteScar
from anomalib_ssl.models.st_ssad import tuning
from anomalib_ssl.models.st_ssad.settings import settings
from anomalib_ssl.models.st_ssad.tuning import choose


@pytest.mark.parametrize("given", [CutPaste(), CutPasteScar(), BlendedPatch(), BlendedPatch(blend="hard")])
def test_settings_differ_and_none_is_larger(given):
    found = settings(given)
    assert found[0] == given
    assert len(set(found)) == len(found) == 6 + (getattr(given, "blend", None) == "hard")
    sampled = [one.sample((200, 3, 64, 64), generator=torch.Generator().manual_seed(0)) for one in found]
    areas = [(each["height"] * each["width"]).float().mean() for each in sampled]
    assert max(areas) <= 1.05 * areas[0]
    assert min(areas) < 0.5 * areas[0]


def test_settings_keep_what_they_do_not_change():
    given = CutPasteScar(width=(1, 3), length=(4, 8), angle=5.0, reference_size=None, jitter=0.4)
    found = settings(given)
    assert len(found) == 3  # weak and strong are the same
    assert {(one.angle, one.reference_size, one.jitter) for one in found} == {(5.0, None, 0.4)}
    assert [(one.width, one.length) for one in found] == [((1, 3), (4, 8)), ((1, 2), (2, 4)), ((1, 1), (1, 2))]
    # No setting is smaller than its kind allows.
    assert settings(CutPaste(area=(1e-6, 2e-6)))[-1].area == (1e-6, 1e-6)
    assert settings(BlendedPatch(height=(0.01, 0.02)))[-1].height == (0.01, 0.01)
    with pytest.raises(TypeError, match="got ColorJitter"):
        settings(ColorJitter())


def pixels(images):
    """An embedding in which a square's size is seen: how far pixels are from grey."""
    return torch.stack([(images - 0.5).abs().mean(dim=(1, 2, 3)), images.mean(dim=(1, 2, 3))], dim=1)


def noise(count, seed):
    return 0.5 + 0.02 * torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


class Square(CutPaste):
    """Paste a black square in place of a patch, as large as the area says."""

    def __call__(self, images, generator=None):
        images, side = images.clone(), round((self.area[0] * 32 * 32) ** 0.5)
        images[:, :, :side, :side] = 0
        return images, images[:, :1] > 2


def squares(*sides):
    return [Square(area=((side / 32) ** 2, 0.9)) for side in sides]


@pytest.mark.parametrize("side", [8, 14])
def test_the_size_of_the_defects_is_found(side):
    (defect,) = squares(side)
    mixed = torch.cat([noise(20, 1), defect(noise(20, 2))[0]])
    found = choose(pixels, {"patch": squares(20, 14, 8, 4)}, [noise(30, 0)], [mixed])
    assert found.pastes == {"patch": squares(side)[0]}
    assert found.distance["patch"] < found.given["patch"]
    assert found.visible == {"patch": 4}


def test_each_view_is_chosen_for_by_itself():
    """Kinds of pastes that were normalised together would make one of them go as far as it can."""
    (defect,) = squares(8)
    mixed = torch.cat([noise(20, 1), defect(noise(20, 2))[0]])
    candidates = {"patch": squares(14, 8, 30), "scar": squares(20, 29, 8)}
    found = choose(pixels, candidates, [noise(30, 0)], [mixed])
    assert found.pastes == {"patch": defect, "scar": defect}


def test_sound_images_change_nothing():
    found = choose(pixels, {"patch": squares(20, 14, 8, 4)}, [noise(30, 0)], [noise(40, 1)])
    assert found.pastes == {"patch": squares(20)[0]}
    assert found.distance == found.given


def test_images_are_compared_in_the_light_that_they_are_scored_in():
    """Darker images are as near as others at equal exposure, and farther without."""
    mixed = noise(40, 1)
    for equal in (True, False):
        given = (pixels, {"patch": squares(20)}, [noise(30, 0)])
        usual, darker = (choose(*given, [images], 0, equal).distance["patch"] for images in (mixed, mixed / 2))
        assert (darker < 1.01 * usual) == equal
        assert darker >= 0.99 * usual


def test_pastes_that_change_nothing_are_not_chosen():
    # One defect in twenty images: without a floor the null paste lies nearest.
    nothing, defect = squares(0.1, 8)
    mixed = torch.cat([noise(19, 1), defect(noise(1, 2))[0]])
    assert choose(pixels, {"patch": [defect, nothing]}, [noise(30, 0)], [mixed]).pastes == {"patch": defect}
    found = choose(pixels, {"patch": [nothing]}, [noise(30, 0)], [mixed])
    assert found.visible == {"patch": 0}
    assert found.pastes == {"patch": nothing}
    assert found.distance == found.given


def test_the_choice_depends_on_the_seed_alone(monkeypatch):
    monkeypatch.setattr(tuning, "MOST_IMAGES", 10)
    candidates = {"patch": settings(CutPaste()), "scar": settings(CutPasteScar())}
    normal, mixed = torch.rand(4, 6, 3, 32, 32, generator=torch.Generator().manual_seed(0)).split(2)
    state = torch.get_rng_state()
    first, second = (choose(pixels, candidates, normal, mixed, seed=3) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    # Only the first ten images of each count.
    assert choose(pixels, candidates, normal, [mixed[0], mixed[1][:4]], seed=3) == first


def test_a_darker_image_is_no_other_image():
    (defect,) = squares(8)
    mixed = torch.cat([noise(20, 1), defect(noise(20, 2))[0]])
    candidates = {"patch": squares(14, 8, 4)}
    for light in (1.0, 0.6):
        assert choose(pixels, candidates, [noise(30, 0)], [light * mixed]).pastes == {"patch": squares(8)[0]}
