# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Which settings of the pastes unlabelled images speak for, in an embedding that stands still."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from anomalib_ssl.augmentations import Augmentation
from anomalib_ssl.models.st_ssad.alignment import mean_distance, visibility
from anomalib_ssl.scoring.exposure import Exposure

MOST_IMAGES = 256
"""No more normal images, nor unlabelled ones, are embedded: means of a few numbers need no more."""

LEAST_VISIBILITY = 0.6
"""Pastes that are told from normal images no better than this are too weak to learn from; 0.5 is chance."""


class Choice(NamedTuple):
    """What was chosen.

    Attributes:
        pastes: The settings, by the name of the view.
        distance: Their mean distances, likewise; smaller is better.
        given: Those of the pastes that were given.
        visible: Numbers of settings that are visible.
    """

    pastes: dict[str, Augmentation]
    distance: dict[str, float]
    given: dict[str, float]
    visible: dict[str, int]


@torch.no_grad()
def choose(
    embed: Callable[[torch.Tensor], torch.Tensor],
    candidates: Mapping[str, Sequence[Augmentation]],
    normal: Iterable[torch.Tensor],
    unlabeled: Iterable[torch.Tensor],
    seed: int = 0,
    equal_exposure: bool = True,
) -> Choice:
    """Choose for each view the setting with which normal and augmented images are best aligned with unlabelled ones.

    Each view's settings are compared by their :func:`~anomalib_ssl.models.st_ssad.alignment.mean_distance`, without
    those that by their :func:`~anomalib_ssl.models.st_ssad.alignment.visibility` cannot be seen: a paste that changes
    nothing lies where most unlabelled images do. Views are compared by themselves: of several kinds of pastes that are
    normalised together, one that goes far makes all distances small. A setting is changed only where normal images in
    place of the unlabelled ones would not choose the same: else the criterion speaks, not the images, as was measured
    (docs/results/st_ssad.md). Images are compared at the brightness that they are scored at; all settings meet the same
    images and random numbers.

    Args:
        embed: Makes embeddings (B, D) of images (B, C, H, W).
        candidates: For each view its settings, the given one first.
        normal: Normal images in batches (B, C, H, W), values in [0, 1]; at least 2.
        unlabeled: Unlabelled images, likewise; at least 1.
        seed: Seed of all that is random about the pastes.
        equal_exposure: Whether images are scored at equal brightness.

    Returns:
        The choice. A view keeps the given setting if none is visible, or the unlabelled images say nothing.
    """
    normal = _first(normal)
    exposure = Exposure().to(normal[0].device)
    exposure.fit(normal if equal_exposure else ())
    train = torch.cat([embed(exposure(images)) for images in normal]).float()
    mixed = torch.cat([embed(exposure(images)) for images in _first(unlabeled)]).float()
    pastes, distances, visible = {}, {}, {}
    for view, settings in candidates.items():
        embedded = []
        for paste in settings:
            generator = torch.Generator(train.device).manual_seed(seed)
            # The paste before the exposure: it takes colours as training does.
            made = [embed(exposure(paste(images, generator)[0])) for images in normal]
            embedded.append(torch.cat(made).float())
        seen = [index for index, one in enumerate(embedded) if visibility(train, one) >= LEAST_VISIBILITY]
        best, control = (
            min(seen or [0], key=[float(mean_distance(train, one, images)) for one in embedded].__getitem__)
            for images in (mixed, train)
        )
        best = 0 if best == control else best
        pastes[view], visible[view] = settings[best], len(seen)
        distances[view] = [float(mean_distance(train, embedded[index], mixed)) for index in (best, 0)]
    return Choice(
        pastes,
        {view: chosen for view, (chosen, _) in distances.items()},
        {view: given for view, (_, given) in distances.items()},
        visible,
    )


def _first(batches: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The first images of all, in batches."""
    found: list[torch.Tensor] = []
    for images in batches:
        found.append(images[: MOST_IMAGES - sum(map(len, found))])
        if sum(map(len, found)) >= MOST_IMAGES:
            break
    return found
