# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Scores of models that restore images: from errors of several kinds, and from features of their encoders."""

from collections.abc import Mapping

from anomalib_ssl.scoring.box_filter import default_box_size
from anomalib_ssl.scoring.map_part import MapPart
from anomalib_ssl.scoring.maps import SMOOTHING
from anomalib_ssl.scoring.pixels import Errors, Pixels
from anomalib_ssl.scoring.places import Places
from anomalib_ssl.scoring.random_filters import RandomFilters
from anomalib_ssl.scoring.restoration_errors import ERRORS
from anomalib_ssl.scoring.scorer import Scorer

ERROR_SMOOTHING = 1 / 32
"""Errors want more smoothing than features, which look at more than a pixel (docs/results/ssm.md has figures)."""


def error_scorer(
    kinds: Mapping[str, int],
    size: tuple[int, int],
    score: str,
    heat_map: str,
    defaults: tuple[str, str],
    features: tuple[str, tuple[int, int, int]] | None = None,
) -> Scorer:
    """Make a scorer of errors, whose candidates are each kind as it is, and standardised pixel by pixel.

    The latter has ``pixels_`` before its name. Features add ``places``, how unlikely they are at their place, and
    ``normed_places``, the same without an image's own contrast; random filters add ``filters``. Maps of these and of
    :data:`~anomalib_ssl.scoring.ERRORS` are smoothed before they are shown, others are as the models make them.

    Args:
        kinds: Names of the evidence, and how many channels each has.
        size: Height and width of the images in pixels.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        defaults: Score and map where ``auto`` has nothing to choose by.
        features: Name of the evidence that is features, and its channels, height and width.

    Raises:
        ValueError: If ``score`` or ``heat_map`` is unknown.
    """
    box_size = default_box_size(size)
    maps: dict[str, MapPart] = {kind: Errors(kind, channels) for kind, channels in kinds.items()}
    maps |= {f"pixels_{kind}": Pixels(kind, size, box_size, channels) for kind, channels in kinds.items()}
    if features is not None:
        source, shape = features
        maps |= {"places": Places(source, shape), "normed_places": Places(source, shape, contrast=False)}
    for part in maps.values():
        share = SMOOTHING if isinstance(part, Places) else ERROR_SMOOTHING if part.source in ERRORS else 0.0
        part.sigma = share * min(size)
    return Scorer(maps, size, score, heat_map, defaults, filters=RandomFilters(size))
