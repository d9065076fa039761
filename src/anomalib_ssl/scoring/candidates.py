# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The maps and numbers that a network and random filters offer: fitted to normal images, and computed of others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.fitted import Fitted
from anomalib_ssl.scoring.gaussian import GaussianDensity
from anomalib_ssl.scoring.map_part import AND, MapPart
from anomalib_ssl.scoring.numbers import NUMBERS, image_number
from anomalib_ssl.scoring.random_filters import FILTERS, FINE, RandomFilters

DENSITY = "density"
"""Name of the score from pooled features."""

THINNED_SIDE = 64
"""Maps are thinned to about so many rows and columns to be standardised and judged: enough, and much faster."""

POOLED = "pooled"
"""Name of the evidence that it looks at: features (B, D)."""

Evidence = Mapping[str, torch.Tensor]
"""What a network says of images, by name: features (B, C, h, w), errors (B, 1, H, W) or pooled features (B, D)."""

Network = Callable[[torch.Tensor, frozenset[str]], Evidence]
"""Gives the evidence of these names for images (B, 3, H, W) in [0, 1]."""


class Candidates(Fitted):
    """All that images can be scored by, before it is standardised and chosen from: parts by name, and a density.

    Args:
        maps: The parts by name.
        size: Height and width of the images in pixels.
        density: Density of pooled features, if there are any.
        filters: Random filters for images of this size, if they shall have a part.

    Attributes:
        map_names: Names of the maps.
        score_names: Names of the numbers of images.
    """

    def __init__(
        self,
        maps: Mapping[str, MapPart],
        size: tuple[int, int],
        density: GaussianDensity | None = None,
        filters: RandomFilters | None = None,
    ) -> None:
        super().__init__()
        self.filters = filters
        if filters is not None:
            maps = {**maps, **{name: filters.places(name) for name in (FILTERS, FINE)}}
        self.size = size
        self.map_names = list(maps)
        numbers = [f"{name}_{number}" for name in maps for number in NUMBERS]
        self.score_names = [DENSITY, *numbers] if density is not None else numbers
        self.maps = nn.ModuleDict(maps)
        self.density = density

    def map(self, name: str, evidence: Evidence) -> torch.Tensor:
        """The map of a part, enlarged and smoothed but not standardised, shape (B, 1, H, W)."""
        return self._smoothed(name, self._enlarged(name, evidence))

    def _fit_parts(self, images: Iterable[torch.Tensor], network: Network) -> int:
        """Fit density and parts that learn in one pass; give the number of images."""
        count = 0
        learning = {name: part for name, part in self._parts.items() if part.learns}
        sources = self._sources([DENSITY] if self.density is not None else [], learning)
        for part in self._parts.values():
            part.forget()
        for part in learning.values():
            part.start()
        if self.density is not None:
            self.density.start()
        for batch in images:
            evidence = self._evidence(batch, network, sources)
            for part in learning.values():
                part.update(_of(part, evidence))
            if self.density is not None:
                self.density.update(evidence[POOLED])
            count += len(batch)
        if count == 0:
            msg = "Statistics of normal images need clean images, got none."
            raise ValueError(msg)
        for part in self._parts.values():
            if part.learns:
                part.finish()
            else:
                part.learned_nothing(count)
        if self.density is not None:
            self.density.finish()
        return count

    def _measure(self, images: torch.Tensor, network: Network, left_out: bool = False) -> dict[str, torch.Tensor]:
        """Score images (B, 3, H, W) in all ways, before standardisation: numbers (B,) and thinned maps by name."""
        evidence = self._evidence(images, network, self._sources(self.score_names, self.map_names))
        maps = {name: self._enlarged(name, evidence, left_out) for name in self.map_names}
        numbers = {name: self._number(name, maps, evidence) for name in self.score_names}
        return numbers | {name: self._thinned(self._smoothed(name, values)) for name, values in maps.items()}

    def _evidence(self, images: torch.Tensor, network: Network, names: frozenset[str]) -> Evidence:
        """What network and filters say of images (B, 3, H, W), as far as it is wanted."""
        own = names - {FILTERS, FINE}
        evidence = network(images, own) if own else {}
        if self.filters is None or names == own:
            return evidence
        return {**evidence, **self.filters(images)}

    def _enlarged(self, name: str, evidence: Evidence, left_out: bool = False) -> torch.Tensor:
        part = self._parts[name]
        seen = _of(part, evidence)
        return part.enlarge(part.left_out(seen) if left_out else part(seen), self.size)

    def _smoothed(self, name: str, enlarged: torch.Tensor) -> torch.Tensor:
        return self._parts[name].smooth(enlarged, self.size)

    def _number(self, name: str, maps: Mapping[str, torch.Tensor], evidence: Evidence) -> torch.Tensor:
        if self.density is not None and name == DENSITY:
            # As a distance, like those of places: its square has a long tail.
            return (2 * self.density(evidence[POOLED])).sqrt()
        shown, number = name.rsplit("_", 1)
        return image_number(maps[shown], number)

    def _thinned(self, maps: torch.Tensor) -> torch.Tensor:
        stride = max(min(self.size) // THINNED_SIDE, 1)
        return maps[..., ::stride, ::stride]

    def _maps_of(self, scores: Iterable[str], maps: Iterable[str]) -> set[str]:
        """Names of the maps that scores and maps are made of."""
        return {*maps, *(name.rsplit("_", 1)[0] for name in scores if name != DENSITY)}

    def _sources(self, scores: Iterable[str], maps: Iterable[str]) -> frozenset[str]:
        """Names of the evidence that scores and maps are made of."""
        pooled = {POOLED} if DENSITY in scores else set()
        wanted = {source for name in self._maps_of(scores, maps) for source in self._parts[name].source.split(AND)}
        return frozenset(pooled | wanted)

    @property
    def _parts(self) -> dict[str, MapPart]:
        return cast("dict[str, MapPart]", dict(self.maps.items()))


def _of(part: MapPart, evidence: Evidence) -> torch.Tensor:
    """What a part looks at: one evidence, or several on the grid of the first."""
    first, *others = (evidence[name] for name in part.source.split(AND))
    if not others:
        return first
    return torch.cat([first, *(_on_grid(other, first.shape[-2:]) for other in others)], dim=1)


def _on_grid(features: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Bring features (B, C, h, w) to a grid; where it is coarser by a power of two all their places count alike."""
    times = min(side // wanted for side, wanted in zip(features.shape[-2:], grid, strict=True)) // 2
    pooled = F.avg_pool2d(features, times) if times > 1 else features
    return F.interpolate(pooled, list(grid), mode="bilinear")
