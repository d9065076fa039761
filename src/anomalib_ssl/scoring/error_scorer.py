# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Scores of models that restore images: from errors of several kinds."""

from collections.abc import Mapping

from anomalib_ssl.scoring.box_filter import default_box_size
from anomalib_ssl.scoring.map_part import MapPart
from anomalib_ssl.scoring.pixels import Errors, Pixels
from anomalib_ssl.scoring.scorer import Scorer


def error_scorer(
    kinds: Mapping[str, int], size: tuple[int, int], score: str, heat_map: str, defaults: tuple[str, str]
) -> Scorer:
    """Make a scorer of errors, whose candidates are each kind as it is, and standardised pixel by pixel.

    The latter has ``pixels_`` before its name.

    Args:
        kinds: Names of the evidence, and how many channels each has.
        size: Height and width of the images in pixels.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        defaults: Score and map where ``auto`` has nothing to choose by.

    Raises:
        ValueError: If ``score`` or ``heat_map`` is unknown.
    """
    box_size = default_box_size(size)
    maps: dict[str, MapPart] = {kind: Errors(kind, channels) for kind, channels in kinds.items()}
    maps |= {f"pixels_{kind}": Pixels(kind, size, box_size, channels) for kind, channels in kinds.items()}
    return Scorer(maps, size, score, heat_map, defaults)
