# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""From what a network says of images to maps and scores: the one place where all models make them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.checks import check_choice
from anomalib_ssl.scoring.candidates import Candidates, Network
from anomalib_ssl.scoring.choice import Measured, moments_of
from anomalib_ssl.scoring.gaussian import GaussianDensity
from anomalib_ssl.scoring.map_part import AND, MapPart
from anomalib_ssl.scoring.planted import plant
from anomalib_ssl.scoring.random_filters import RandomFilters
from anomalib_ssl.scoring.standardizer import Standardizer

logger = logging.getLogger(__name__)

AUTO = "auto"
"""Name of the choice by planted defects."""


class Scorer(Candidates):
    """Makes maps and scores of evidence, in the way that tells planted defects from sound images best.

    Candidates for the map are the parts, enlarged to the image and smoothed. Candidates for the score are the largest
    value of each, the mean of its largest tenth and its mean, named ``MAP_max``, ``MAP_top`` and ``MAP_mean``, before
    it is smoothed, which places defects better and tells images worse; and ``density``, a Gaussian of pooled features.
    Random filters add two maps, ``filters`` and ``fine_filters``: how unlikely at their place the features are that
    they see.
    Several joined by ``+``, as in ``change_mean+density``, stand for the mean of what each gives, and one that is named
    twice counts twice. Everything is fitted to the training images. Then images that were held out from training are
    scored in all ways, and so are copies with planted defects (:mod:`planted`); the candidates with the highest AUROC,
    a mean over the families of defects, are taken, for score and map separately. No label and no test image has a part
    in this. What was judged travels with the state dict; exported graphs hold what was chosen alone.

    Scores and maps come as ``asinh((x - mean) / deviation)`` over the held-out images: 0 is an ordinary sound image
    (or pixel), 1 about a standard deviation above, and large distances grow as their logarithm. That is monotone, so
    ranks stay as they are. Where nothing was held out, training images take the place of the others, each compared as
    if densities of places had not been fitted to it; and of ``auto`` comes the default.

    Args:
        maps: The parts by name.
        size: Height and width of the images in pixels.
        score: Name of a candidate, several joined by ``+``, or ``auto``.
        heat_map: Name of a part, likewise.
        defaults: Score and map where ``auto`` has nothing to choose by; it chooses among these, too.
        density: Density of pooled features, if there are any.
        filters: Random filters for images of this size, if they shall have a part.

    Attributes:
        chosen: Score and map that are in use.

    Raises:
        ValueError: If ``score`` or ``heat_map`` is unknown.
    """

    judged: torch.Tensor

    def __init__(
        self,
        maps: Mapping[str, MapPart],
        size: tuple[int, int],
        score: str = AUTO,
        heat_map: str = AUTO,
        defaults: tuple[str, str] | None = None,
        density: GaussianDensity | None = None,
        filters: RandomFilters | None = None,
    ) -> None:
        super().__init__(maps, size, density, filters)
        _check_candidate("score", score, self.score_names)
        _check_candidate("heat_map", heat_map, self.map_names)
        self.score = score
        self.heat_map = heat_map
        # A model's own, whatever was asked for: what was judged has the same names in every checkpoint of it.
        self._usual = first = defaults or (self.score_names[0], self.map_names[0])
        self.chosen = (first[0] if score == AUTO else score, first[1] if heat_map == AUTO else heat_map)
        self._defaults = self.chosen
        self.score_scales = nn.ModuleDict({name: Standardizer() for name in self.score_names})
        self.map_scales = nn.ModuleDict({name: Standardizer() for name in self.map_names})
        self.register_buffer("judged", torch.zeros(len(self._judged_scores) + len(self._judged_maps)))

    def forward(self, images: torch.Tensor, network: Network) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        self.require_fitted()
        score, shown = self.chosen
        scores, shown_maps = score.split(AND), shown.split(AND)
        evidence = self._evidence(images, network, self._sources(scores, shown_maps))
        maps = {name: self._enlarged(name, evidence) for name in self._maps_of(scores, shown_maps)}
        # Once, however often it counts.
        numbers = {name: self._number(name, maps, evidence) for name in dict.fromkeys(scores)}
        smoothed = {name: self._smoothed(name, maps[name]) for name in dict.fromkeys(shown_maps)}
        return InferenceBatch(pred_score=self._together(score, numbers), anomaly_map=self._together(shown, smoothed))

    def candidates(self, images: torch.Tensor, network: Network) -> dict[str, torch.Tensor]:
        """All maps (B, 1, H, W) by name, on the scale that the chosen one is given on."""
        self.require_fitted()
        evidence = self._evidence(images, network, self._sources([], self.map_names))
        return {name: self.map_scales[name](self.map(name, evidence)).asinh() for name in self.map_names}

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor], network: Network, held_out: Iterable[torch.Tensor] = ()) -> None:
        """Fit all parts, standardise all candidates and choose.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]; gone through a second time where
                nothing is held out.
            network: Gives the evidence, in evaluation mode.
            held_out: Clean images that were not trained on, likewise.

        Raises:
            ValueError: If there are too few training images, or evidence is not finite.
        """
        self.forget()
        count = self._fit_parts(images, network)
        known = list(held_out)
        # Images that the parts were fitted to lie nearer than others: then as if each had not been among them.
        sound = Measured.of(self._measure(batch, network, left_out=not known) for batch in known or images)
        for name, scale in [*self.score_scales.items(), *self.map_scales.items()]:
            cast(Standardizer, scale).fit(moments_of(sound.values[name]))
        self.chosen = self._defaults
        self.judged.zero_()
        if known:
            self._judge(sound, known, network)
        self._set_fitted(count)

    def _judge(self, sound: Measured, images: Sequence[torch.Tensor], network: Network) -> None:
        """Plant defects in sound images, and choose the candidates that tell them best."""
        planted: dict[str, Measured] = {}
        for family, changed, masks in plant(images):
            planted.setdefault(family, Measured()).add(self._measure(changed, network), self._thinned(masks))
        families = [family for family in planted.values() if family.has_defects]
        if not families:
            return
        for measured in (sound, *families):
            for name in (name for name in self._usual if AND in name):
                parts = [measured.values[part] for part in name.split(AND)]
                measured.values[name] = [
                    self._together(name, dict(zip(name.split(AND), batch, strict=True)))
                    for batch in zip(*parts, strict=True)
                ]
        share = 1 / len(families)
        scores = [share * sum(one.image_auroc(sound, name) for one in families) for name in self._judged_scores]
        maps = [share * sum(one.pixel_auroc(name) for one in families) for name in self._judged_maps]
        self.judged.copy_(torch.tensor(scores + maps))
        self._choose()
        logger.info("By defects planted in held-out images: score %s, heat map %s.", *self.chosen)

    def _choose(self) -> None:
        """Where that is asked for, take what tells planted defects best; of equals the default."""
        kinds = zip((self.score, self.heat_map), self._defaults, (self.judged_scores, self.judged_maps), strict=True)
        self.chosen = cast(
            "tuple[str, str]",
            tuple(
                max(judged, key=lambda name: (judged[name], name == own)) if given == AUTO and judged else own
                for given, own, judged in kinds
            ),
        )

    @property
    def judged_scores(self) -> dict[str, float]:
        """AUROC of each candidate on planted defects; nothing before a fit, or where nothing was held out."""
        values = self.judged.tolist()[: len(self._judged_scores)]
        return dict(zip(self._judged_scores, values, strict=True)) if any(values) else {}

    @property
    def judged_maps(self) -> dict[str, float]:
        """The same of maps, pixel by pixel."""
        values = self.judged.tolist()[len(self._judged_scores) :]
        return dict(zip(self._judged_maps, values, strict=True)) if any(values) else {}

    @property
    def _judged_scores(self) -> list[str]:
        """What ``auto`` chooses a score from: all candidates, and the default, which may be several together."""
        return [*self.score_names, self._usual[0]]

    @property
    def _judged_maps(self) -> list[str]:
        return [*self.map_names, self._usual[1]]

    def _together(self, name: str, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Standardise numbers (B,) or maps (B, 1, H, W) of candidates, and average those that ``name`` joins."""
        scales = {**self.score_scales, **self.map_scales}
        parts = [scales[part](values[part]).asinh() for part in name.split(AND)]
        return torch.stack(parts).mean(dim=0) if len(parts) > 1 else parts[0]

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._choose()


def _check_candidate(argument: str, value: str, names: Sequence[str]) -> None:
    parts = value.split(AND) if isinstance(value, str) and AND in value else [value]
    for part in parts:
        check_choice(argument, part, names if len(parts) > 1 else (AUTO, *names))
