# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Models that restore images: what their scores are made of, on a network whose answers are known."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.components import RestoringModel
from anomalib_ssl.scoring import ERRORS


class Half(RestoringModel):
    """Restores half of the brightness; the features are the image itself at three sizes."""

    def __init__(self, size, score="pixels_all_max+normed_places_top", heat_map="all+normed_places"):
        super().__init__()
        self.calls = {"restore": 0, "encode": 0}
        self.score_by(size, score, heat_map)

    def restore(self, images):
        self.calls["restore"] += 1
        return 0.5 * images

    def encode(self, images):
        self.calls["encode"] += 1
        return [F.avg_pool2d(images, 2**level) for level in (1, 2, 3)]

    def forward(self, images):
        return self.score_images(images)


def rand(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (16, 16)), ((128, 256), (32, 64)), ((512, 512), (32, 32))])
def test_features_are_of_a_bounded_number_of_places(size, grid):
    model, images = Half(size), rand(2, 3, *size)
    features = model.evidence(images, frozenset({"features"}))["features"]
    assert features.shape == (2, 9, *grid)
    # Means over blocks of pixels, but for stages that are coarser than the grid.
    blocks = F.avg_pool2d(images, (size[0] // grid[0], size[1] // grid[1]))
    torch.testing.assert_close(features[:, 3:6], blocks)


def test_only_what_is_asked_for_is_computed():
    model, images = Half((64, 64)), rand(2, 3, 64, 64)
    model.fit([images])
    model.calls.update(restore=0, encode=0)
    assert set(model.evidence(images, frozenset({"features"}))) == {"features"}
    assert model.calls == {"restore": 0, "encode": 1}
    assert "features" not in model.evidence(images, frozenset(ERRORS))
    assert model.calls == {"restore": 1, "encode": 1}
    stages = model.encode(images)
    both = model.compare(images, frozenset({"both", "features"}), 0.5 * images, stages)
    assert model.calls == {"restore": 1, "encode": 2}
    torch.testing.assert_close(both["plain"], model.evidence(images, frozenset({"plain"}))["plain"])


def test_score_and_map_find_a_defect():
    model = Half((64, 64))
    normal = 0.5 + 0.05 * rand(40, 3, 64, 64)
    model.fit([normal[:30]], [normal[30:]])
    defects = normal[30:].clone()
    defects[:, :, 24:32, 24:32] += 0.3
    with torch.no_grad():
        sound, found = model(normal[30:]), model(defects)
    assert found.pred_score.min() > sound.pred_score.max()
    assert found.anomaly_map[:, :, 26:30, 26:30].min() > sound.anomaly_map.max()
