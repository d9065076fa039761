# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Encoder and heads in training; distance to the mean feature maps and uncertainty in scoring."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_flag
from anomalib_ssl.models.components import ScoredModel, feature_evidence, feature_scorer, probing
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.dynamic_local_augmentation.deviation import MapDeviation
from anomalib_ssl.models.dynamic_local_augmentation.encoder import Encoder
from anomalib_ssl.models.dynamic_local_augmentation.heads import DenseHead, GlobalHead, Projection
from anomalib_ssl.models.dynamic_local_augmentation.pooling import average_pool
from anomalib_ssl.scoring import Errors, Evidence, upsample
from anomalib_ssl.scoring.maps import SMOOTHING

DENSE_GRID = 14
"""Most rows and columns of the dense branch's map; larger ones are averaged down."""

ALPHAS = (1.0, 0.1)
"""Weights of distance and uncertainty in the paper's map, by the secondary note."""

PASSES_AT_ONCE = 4
"""Passes with dropout that go through the network in one batch."""

DISTANCE = "distance"
"""Name of the map of distances to mean maps, and of its evidence."""

STEADY = 1e-4
"""Variance over an image that is added to a channel's own, so that noise in one that is hardly active stays small."""


class Embeddings(NamedTuple):
    """What the network makes of stacked views in training.

    Attributes:
        global_: Projections of pooled features of the two views of each image, (2 * B, D).
        dense_features: Feature maps of these, without gradient, (2 * B, C, h, w).
        dense: Their projections, (2 * B, D', h, w).
        negative: Projections of pooled features of the first view and of its augmented version, (2 * B, D); none
            without negatives.
        local: Projections of feature maps of these, (2 * B, D', h, w); none without a local branch.
    """

    global_: Projection
    dense_features: torch.Tensor
    dense: Projection
    negative: Projection | None
    local: Projection | None


class DynamicLocalAugmentationModel(ScoredModel):
    """The network and the score of contrast against local augmentations (Yoa et al., IEEE Access 9, 2021).

    In training mode the model gives projections of views. In evaluation mode it gives anomaly maps and scores. The
    paper's map, as far as it is known, is ``distance``::

        images -> feature maps of the stages -> squared distance to the mean maps
        images -> the same with dropout, repeatedly -> variances -> squared distance to the mean variances
        both -> enlarged, mean over the stages -> weighted sum

    See :func:`~anomalib_ssl.models.components.feature_scorer` for the other ways, which need one pass and no dropout.

    A secondary note on the paper reports the distance to mean feature maps, uncertainty by dropout, and weights of 1
    and 0.1. What distances are exactly, where dropout is, all normalisation, and the score of an image are this
    package's choices.

    Args:
        image_size: Height and width in pixels of the images.
        use_negative: Whether there is a negative branch.
        use_local: Whether places of augmented versions are compared.
        standardize: Whether each channel is brought to a mean of 0 and a standard deviation of 1 over the image before
            it is compared, squared distances are divided by how much their place and channel vary over the training
            images, and errors by their mean over these.
        score: Candidate for scores, or ``auto``.
        heat_map: Candidate for maps, or ``auto``.
        **encoder: Arguments of :class:`Encoder`.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        use_negative: bool = True,
        use_local: bool = False,
        standardize: bool = True,
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **encoder: Any,
    ) -> None:
        super().__init__()
        check_flag("standardize", standardize)
        self.encoder = Encoder(**encoder)
        self.standardize = standardize
        # Each sample costs a pass through the network.
        self.mc_samples = self.encoder.mc_samples
        if self.mc_samples == 1:
            msg = "mc_samples must be 0, for no uncertainty, or at least 2: it is a variance. Got 1."
            raise ValueError(msg)
        self.global_head = GlobalHead(self.encoder.num_features)
        self.dense_head = DenseHead(self.encoder.num_dense_features)
        self.negative_head = GlobalHead(self.encoder.num_features) if use_negative else None
        self.use_local = use_local
        shapes = self._map_shapes(image_size)
        if standardize and min(height * width for _, height, width in shapes) == 1:
            msg = f"standardize=True needs maps of more than one place, got {shapes}: image_size must be larger."
            raise ValueError(msg)
        self.distance = MapDeviation(shapes, "variance" if standardize else "none")
        # How much variances vary differs by orders of magnitude: divided by it, the steadiest would rule the map.
        divisor: Literal["none", "train"] = "train" if standardize else "none"
        self.uncertainty = MapDeviation(shapes, divisor) if self.mc_samples > 0 else None
        own = {DISTANCE: Errors(DISTANCE)}
        own[DISTANCE].sigma = SMOOTHING * min(image_size)
        self.scorer = feature_scorer(self.encoder.backbone, image_size, score, heat_map, own)

    def forward(self, images: torch.Tensor) -> Embeddings | InferenceBatch:
        """Project views in training mode, score images in evaluation mode.

        Args:
            images: Shape (N, 3, H, W), values in [0, 1]. In training two views of each of B images, one batch after the
                other, and then, for a negative branch, the augmented version of each first view.

        Returns:
            Projections in training mode; else ``pred_score`` (N,) and ``anomaly_map`` (N, 1, H, W).

        Raises:
            NotFittedError: If images are scored before statistics of clean images were fitted.
        """
        return self.embed(images) if self.training else self.score_images(images)

    def embed(self, images: torch.Tensor) -> Embeddings:
        """Project stacked views; arguments and result as those of :meth:`forward` in training.

        All views go through the network, and a branch's through its head, in one batch: statistics of separate batches
        would tell negatives from positives, and would take a common difference of the two away.
        """
        count = len(images) // (3 if self.augments else 2)
        pooled, maps = self.encoder(images)
        global_ = self.global_head(pooled[: 2 * count])
        rows, cols = (min(side, DENSE_GRID) for side in maps.shape[-2:])
        features = average_pool(maps if self.use_local else maps[: 2 * count], rows, cols)
        places: Projection = self.dense_head(features)
        dense = Projection(*(values[: 2 * count] for values in places))
        local = Projection(*(_without_second(values, count) for values in places)) if self.use_local else None
        negative = self.negative_head(_without_second(pooled, count)) if self.negative_head is not None else None
        return Embeddings(global_, features[: 2 * count].detach(), dense, negative, local)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute features of images (B, 3, H, W) in [0, 1], and distances where they are wanted."""
        evidence = dict(feature_evidence(self.encoder.backbone, images, names)) if names != {DISTANCE} else {}
        if DISTANCE in names:
            distance, uncertainty = self.error_maps(images)
            evidence[DISTANCE] = ALPHAS[0] * distance
            if uncertainty is not None:
                evidence[DISTANCE] = evidence[DISTANCE] + ALPHAS[1] * uncertainty
        return evidence

    def error_maps(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Distance and uncertainty of images (B, 3, H, W), each (B, 1, H, W), before they are weighted.

        Raises:
            NotFittedError: If statistics of clean images were not fitted.
        """
        size = images.shape[-2], images.shape[-1]
        features, variances = self.measure(images)

        def averaged(errors: list[torch.Tensor]) -> torch.Tensor:
            return torch.stack([upsample(error, size) for error in errors]).mean(dim=0)

        distance = averaged(self.distance(features))
        if self.uncertainty is None or variances is None:
            return distance, None
        return distance, averaged(self.uncertainty(variances))

    def measure(self, images: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor] | None]:
        """Feature maps of the scored stages as they are compared, and their variances under dropout.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Maps (B, C, h, w), and variances over the passes of the same shapes; none without passes.
        """
        if self.mc_samples == 0:
            return [self._scaled(features) for features in self.encoder.maps(images)], None
        total = self.mc_samples + 1
        clean: list[torch.Tensor] = []
        sums: list[torch.Tensor] = []
        squares: list[torch.Tensor] = []
        for start in range(0, total, PASSES_AT_ONCE):
            passes = range(start, min(start + PASSES_AT_ONCE, total))
            maps = [self._scaled(features) for features in self.encoder.passes(images, passes)]
            if start == 0:
                clean = [features[0] for features in maps]
                maps = [features[1:] for features in maps]
                sums = squares = [torch.zeros_like(features) for features in clean]
            # Differences from the pass without dropout: the variance of values is small beside the values.
            changes = [features - own for features, own in zip(maps, clean, strict=True)]
            sums = [value + change.sum(dim=0) for value, change in zip(sums, changes, strict=True)]
            squares = [value + change.square().sum(dim=0) for value, change in zip(squares, changes, strict=True)]
        count = self.mc_samples
        variances = [
            (square / count - (value / count).square()).clamp(min=0)
            for value, square in zip(sums, squares, strict=True)
        ]
        return clean, variances

    def _scaled(self, features: torch.Tensor) -> torch.Tensor:
        """Bring feature maps (..., C, h, w) into the form in which they are compared."""
        if not self.standardize:
            return features
        return F.instance_norm(features.flatten(0, -4), eps=STEADY).view_as(features)

    @property
    def augments(self) -> bool:
        """Whether views have augmented versions in training."""
        return self.use_local or self.negative_head is not None

    def fit_evidence(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the mean maps, in a pass of their own."""
        used = list(self.deviations.values())
        for deviation in used:
            deviation.start()
        for batch in images:
            features, variances = self.measure(batch)
            for deviation, maps in zip(used, (features, variances or []), strict=False):
                deviation.update(maps)
        for deviation in used:
            deviation.finish()

    @property
    def deviations(self) -> dict[str, MapDeviation]:
        """What scores are made of, ``distance`` and, where there are passes with dropout, ``uncertainty``."""
        if self.uncertainty is None:
            return {"distance": self.distance}
        return {"distance": self.distance, "uncertainty": self.uncertainty}

    def _map_shapes(self, image_size: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Shape (C, h, w) of the maps of the scored stages."""
        with probing(self.encoder):
            maps = self.encoder.maps(torch.zeros(1, 3, *image_size))
        return [(features.shape[1], features.shape[2], features.shape[3]) for features in maps]


def _without_second(values: torch.Tensor, count: int) -> torch.Tensor:
    """Those of the first views and of their augmented versions, of values (3 * count, ...) of all views."""
    return torch.cat([values[:count], values[2 * count :]])
