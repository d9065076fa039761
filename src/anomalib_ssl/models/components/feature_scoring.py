# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Scores of models that learn features: one Gaussian of pooled ones, one at each place of three stages."""

from collections.abc import Mapping

import torch

from anomalib_ssl.models.components.backbone import Backbone
from anomalib_ssl.models.components.probing import probing
from anomalib_ssl.scoring import Evidence, GaussianDensity, GradCam, MapPart, Places, RandomFilters, Scorer, join
from anomalib_ssl.scoring.candidates import POOLED
from anomalib_ssl.scoring.map_part import AND
from anomalib_ssl.scoring.maps import SMOOTHING
from anomalib_ssl.scoring.random_filters import FILTERS, FINE

FEATURES, LAST = "features", "last"
"""Names of evidence: the stages on one grid, and the feature map that is pooled."""

WITH_FILTERS = "places_and_filters"
"""Name of the map of features together with what random filters see."""

SHOWN = f"{WITH_FILTERS}{AND}{FINE}"
"""How defects are placed: by that, and by what random filters see of finer detail."""

DEFAULTS = (f"{WITH_FILTERS}_max", SHOWN)
"""Score and map (docs/results/random_filters.md has figures)."""


def feature_scorer(
    backbone: Backbone,
    image_size: tuple[int, int],
    score: str,
    heat_map: str,
    own: Mapping[str, MapPart] | None = None,
    defaults: tuple[str, str] = DEFAULTS,
) -> Scorer:
    """Make a scorer of ``density``, ``gradcam``, maps of features and of random filters, and a model's own.

    Features of three stages of the backbone are compared with normal ones at their place (``places``), without an
    image's own contrast (``normed_places``), and so together with what random filters see (``places_and_filters``).

    Args:
        backbone: The network.
        image_size: Height and width in pixels of the images.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        own: Maps that the model has besides, smoothed as they say.
        defaults: Score and map where ``auto`` has nothing to choose by.

    Raises:
        ValueError: If an argument is outside its limits. A backbone without stages has no places.
    """
    density = GaussianDensity(backbone.num_scored_features)
    filters = RandomFilters(image_size)
    maps: dict[str, MapPart] = {}
    if backbone.stage_indices:
        shape = _shape(backbone, image_size)
        maps = {
            "places": Places(FEATURES, shape),
            "normed_places": Places(FEATURES, shape, contrast=False),
        }
    maps["gradcam"] = GradCam(LAST, density)
    for part in maps.values():
        part.sigma = SMOOTHING * min(image_size)
    if backbone.stage_indices:
        maps[WITH_FILTERS] = filters.places(AND.join((FILTERS, FEATURES)), shape[0], backbone.pre_trained)
    return Scorer(maps | dict(own or {}), image_size, score, heat_map, defaults, density, filters)


def feature_evidence(backbone: Backbone, images: torch.Tensor, names: frozenset[str]) -> Evidence:
    """Compute features of images (B, 3, H, W) in [0, 1], and run the network no further than what is wanted."""
    if not names & {LAST, POOLED}:
        return {FEATURES: join(backbone.stages(images))}
    if FEATURES not in names:
        last = backbone.scored(images)
        return {LAST: last, POOLED: last.mean(dim=(2, 3))}
    last, stages = backbone.scored_and_stages(images)
    return {LAST: last, POOLED: last.mean(dim=(2, 3)), FEATURES: join(stages)}


def _shape(backbone: Backbone, image_size: tuple[int, int]) -> tuple[int, int, int]:
    with probing(backbone):
        _, channels, height, width = join(backbone.stages(torch.zeros(1, 3, *image_size))).shape
    return channels, height, width
