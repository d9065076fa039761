# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Images are brought to one brightness, and what is scored by them no longer depends on the light."""

import pytest
import torch

from anomalib_ssl.models.cutpaste.ensemble import CutPasteEnsemble
from anomalib_ssl.models.cutpaste.patch_model import CutPastePatchModel
from anomalib_ssl.models.cutpaste.torch_model import CutPasteModel
from anomalib_ssl.scoring import Exposure

TRAINING = [torch.full((3, 3, 8, 8), 0.2), torch.full((1, 3, 8, 8), 0.6)]


def fitted() -> Exposure:
    """An exposure of images whose mean is 0.3."""
    exposure = Exposure()
    exposure.fit(TRAINING)
    return exposure


def test_every_image_gets_the_mean_of_the_training_images() -> None:
    """Whatever their own mean, and each for itself."""
    light = torch.tensor([0.1, 0.4, 0.7, 1.0]).view(4, 1, 1, 1)
    images = light * torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    exposed = fitted()(images)
    torch.testing.assert_close(exposed.mean(dim=(1, 2, 3)), torch.full((4,), 0.3))
    torch.testing.assert_close(exposed[2:3], fitted()(images[2:3]))


def test_colours_keep_their_ratios() -> None:
    """One gain for all channels."""
    image = torch.tensor([0.1, 0.2, 0.4]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    exposed = fitted()(image)
    torch.testing.assert_close(exposed / exposed[:, :1], image / image[:, :1])


def test_unfitted_it_leaves_images_alone() -> None:
    """So does one that was fitted to nothing after it was fitted."""
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Exposure()(images), images)
    exposure = fitted()
    exposure.fit(())
    assert torch.equal(exposure(images), images)


def test_black_images_stay_black() -> None:
    """Nothing is divided by zero, and the noise of a black image does not become its content."""
    exposed = fitted()(torch.zeros(1, 3, 8, 8))
    assert torch.equal(exposed, torch.zeros_like(exposed))
    assert fitted().gain(torch.full((1, 3, 8, 8), 1e-6)).item() == pytest.approx(0.3 * 255)


def test_equalised_batches_can_be_gone_through_twice() -> None:
    """Statistics are estimated in several passes."""
    batches = fitted().of(TRAINING)
    first, second = [list(batches) for _ in range(2)]
    assert [batch.shape for batch in first] == [batch.shape for batch in TRAINING]
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_reference_travels_with_the_state() -> None:
    """A loaded model sees images in the light that it was fitted in."""
    loaded = Exposure()
    loaded.load_state_dict(fitted().state_dict())
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(loaded(images), fitted()(images))


@pytest.mark.parametrize("kind", ["image", "patch", "ensemble"])
def test_scores_do_not_depend_on_the_light(kind: str) -> None:
    """A fitted exposure takes a common factor out of scores and maps; an unfitted one does not."""
    torch.manual_seed(0)
    images = [torch.rand(8, 3, 32, 32)]
    model: CutPasteModel | CutPastePatchModel | CutPasteEnsemble
    if kind == "patch":
        model = CutPastePatchModel((32, 32), "test_resnet", window_size=16, stride=8)
    else:
        member = CutPasteModel("test_resnet", image_size=(32, 32))
        model = member if kind == "image" else CutPasteEnsemble([member])
    model.eval()
    darker = 0.5 * images[0]
    with torch.no_grad():
        model.fit(images)
        before = model(images[0])
        assert not torch.allclose(model(darker).pred_score, before.pred_score, atol=1e-2)
        model.exposure.fit(images)
        model.fit(model.exposure.of(images))
        known, dark = model(images[0]), model(darker)
    torch.testing.assert_close(dark.pred_score, known.pred_score, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(dark.anomaly_map, known.anomaly_map, rtol=1e-2, atol=1e-2)
