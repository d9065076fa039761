# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Encoder and heads in training; distance to the mean feature maps and uncertainty in scoring."""

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.dynamic_local_augmentation.deviation import MapDeviation
from anomalib_ssl.models.dynamic_local_augmentation.encoder import Encoder
from anomalib_ssl.models.dynamic_local_augmentation.heads import DenseHead, GlobalHead, Projection
from anomalib_ssl.scoring import upsample

FEATURE_NORMS = ("none", "unit", "image")
"""Names of what is done to feature maps before they are compared."""

STEADY = 1e-4
"""Variance over an image that is added to a channel's own, so that noise in one that is hardly active stays small."""


class Embeddings(NamedTuple):
    """What the network makes of stacked views in training.

    Attributes:
        global_: Projections of pooled features of the positive views, (2 * B, D).
        dense_features: Feature maps of the positive views, (2 * B, C, h, w); none without a dense branch.
        dense: Their projections, (2 * B, D', h, w), likewise.
        negative: Projections of pooled features of the first view and of its K negatives, ((1 + K) * B, D); none
            without negatives.
    """

    global_: Projection
    dense_features: torch.Tensor | None
    dense: Projection | None
    negative: Projection | None


class DynamicLocalAugmentationModel(nn.Module):
    """The network and the score of contrast against local augmentations (Yoa et al., IEEE Access 9, 2021).

    In training mode the model gives projections of views. In evaluation mode it gives anomaly maps and scores::

        images -> feature maps of the stages -> squared distance to the mean maps
        images -> the same with dropout, repeatedly -> variances -> squared distance to the mean variances
        both -> enlarged, mean over the stages -> weighted sum: the map -> smoothed maximum: the score

    A secondary note on the paper reports the distance to mean feature maps, uncertainty by dropout, and weights of 1
    and 0.1. What distances are exactly, where dropout is, all normalisation, and the score of an image are this
    package's choices.

    Args:
        image_size: Height and width in pixels of the images.
        proj_dim: Length of projections of pooled features.
        dense_dim: Length of projections of places.
        dense_grid: Most rows and columns of the dense branch's map; larger ones are averaged down.
        share_negative_head: Whether negatives use the head of the positives instead of one of their own.
        use_dense: Whether there is a dense branch.
        use_negative: Whether there is a negative branch.
        mu_mode: ``position`` or ``channel``; see :class:`MapDeviation`.
        feature_norm: What is done to feature maps before comparison: ``image`` brings each channel to a mean of 0
            and a standard deviation of 1 over the image, ``unit`` the features of each place to length 1, ``none``
            leaves them as they are.
        score_norm: ``none``, ``train`` or ``variance``; see ``normalize`` of :class:`MapDeviation`. ``variance`` is for
            distances alone; uncertainties then are as with ``train``.
        alphas: Weights of distance and uncertainty, of at least 0.
        keep_alphas: Whether these weights are part of the model's state, because they are chosen in training.
        mc_chunk: Passes that go through the network at once.
        map_sigma: Gaussian smoothing of the map, in pixels; 0 for none.
        score_sigma: Gaussian smoothing of the map before its maximum is taken for the image's score, likewise.
        **encoder: Arguments of :class:`Encoder`.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    alphas: torch.Tensor

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        proj_dim: int = 2048,
        dense_dim: int = 128,
        dense_grid: int = 14,
        share_negative_head: bool = False,
        use_dense: bool = True,
        use_negative: bool = True,
        mu_mode: Literal["position", "channel"] = "position",
        feature_norm: Literal["none", "unit", "image"] = "image",
        score_norm: Literal["none", "train", "variance"] = "variance",
        alphas: tuple[float, float] = (1.0, 0.1),
        keep_alphas: bool = False,
        mc_chunk: int = 4,
        map_sigma: float = 0.0,
        score_sigma: float = 4.0,
        **encoder: Any,
    ) -> None:
        super().__init__()
        check_number("proj_dim", proj_dim, 4)
        check_number("dense_dim", dense_dim, 4)
        check_number("dense_grid", dense_grid, 1)
        check_number("mc_chunk", mc_chunk, 1)
        check_number("map_sigma", map_sigma, 0)
        check_number("score_sigma", score_sigma, 0)
        check_choice("feature_norm", feature_norm, FEATURE_NORMS)
        if len(alphas) != 2 or max(alphas) <= 0:
            msg = f"alphas must be two weights, not both 0, got {tuple(alphas)!r}."
            raise ValueError(msg)
        for alpha in alphas:
            check_number("alphas", alpha, 0)
        self.encoder = Encoder(**encoder)
        self.dense_grid = dense_grid
        self.mc_chunk = mc_chunk
        self.map_sigma = map_sigma
        self.score_sigma = score_sigma
        self.feature_norm = feature_norm
        # Uncertainty costs a pass through the network for each sample.
        self.mc_samples = self.encoder.mc_samples if alphas[1] > 0 or keep_alphas else 0
        if self.mc_samples == 1:
            msg = "mc_samples must be 0, for no uncertainty, or at least 2: it is a variance. Got 1."
            raise ValueError(msg)
        if alphas[0] == 0 and self.mc_samples == 0:
            msg = f"alphas={tuple(alphas)} leaves no score without uncertainty: mc_samples or dropout_p is 0."
            raise ValueError(msg)
        self.global_head = GlobalHead(self.encoder.num_features, proj_dim)
        self.dense_head = DenseHead(self.encoder.num_dense_features, dense_dim) if use_dense else None
        self.negative_head = (
            GlobalHead(self.encoder.num_features, proj_dim) if use_negative and not share_negative_head else None
        )
        shapes = self._map_shapes(image_size)
        if feature_norm == "image" and min(height * width for _, height, width in shapes) == 1:
            msg = f"feature_norm='image' needs maps of more than a single place, got {shapes}: leave out score_layers."
            raise ValueError(msg)
        self.distance = MapDeviation(shapes, mu_mode, score_norm)
        # Also where alphas leave it out, so that a checkpoint can be loaded with others.
        # How much variances vary differs by orders of magnitude: divided by it, the steadiest would rule the map.
        of_uncertainty: Literal["none", "train"] = "train" if score_norm == "variance" else score_norm
        self.uncertainty = MapDeviation(shapes, mu_mode, of_uncertainty) if self.encoder.mc_samples > 0 else None
        self.register_buffer("alphas", torch.tensor([float(alpha) for alpha in alphas]), persistent=keep_alphas)

    def forward(self, images: torch.Tensor, num_positives: int | None = None) -> Embeddings | InferenceBatch:
        """Project views in training mode, score images in evaluation mode.

        Args:
            images: Shape (N, 3, H, W), values in [0, 1]. In training two views of each of B images, one batch after the
                other, and then K batches of negatives of the first.
            num_positives: In training 2 * B. All images by default.

        Returns:
            Projections in training mode; else ``pred_score`` (N,) and ``anomaly_map`` (N, 1, H, W).

        Raises:
            NotFittedError: If images are scored before statistics of clean images were fitted.
        """
        return self.embed(images, num_positives) if self.training else self.score_images(images)

    def embed(self, images: torch.Tensor, num_positives: int | None = None) -> Embeddings:
        """Project stacked views; arguments and result as those of :meth:`forward` in training.

        All views go through the network, and a branch's through its head, in one batch: statistics of separate batches
        would tell negatives from positives, and would take a common difference of the two away.
        """
        count = len(images) if num_positives is None else num_positives
        pooled, dense = self.encoder(images)
        negative = None
        if count < len(images):
            head = self.global_head if self.negative_head is None else self.negative_head
            negative = head(torch.cat([pooled[: count // 2], pooled[count:]]))
        if self.dense_head is None:
            return Embeddings(self.global_head(pooled[:count]), None, None, negative)
        rows, cols = (min(side, self.dense_grid) for side in dense.shape[-2:])
        dense = F.adaptive_avg_pool2d(dense[:count], (rows, cols))
        return Embeddings(self.global_head(pooled[:count]), dense, self.dense_head(dense), negative)

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W)."""
        size = images.shape[-2], images.shape[-1]
        distance, uncertainty = self.error_maps(images)
        maps = self.alphas[0] * distance
        if uncertainty is not None:
            maps = maps + self.alphas[1] * uncertainty
        shown = upsample(maps, size, self.map_sigma) if self.map_sigma > 0 else maps
        judged = upsample(maps, size, self.score_sigma) if self.score_sigma > 0 else maps
        return InferenceBatch(pred_score=judged.amax(dim=(1, 2, 3)), anomaly_map=shown)

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
        for start in range(0, total, self.mc_chunk):
            passes = range(start, min(start + self.mc_chunk, total))
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
        if self.feature_norm == "none":
            return features
        if self.feature_norm == "unit":
            return F.normalize(features, dim=-3)
        return F.instance_norm(features.flatten(0, -4), eps=STEADY).view_as(features)

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the mean maps to clean images, in evaluation mode and in one pass.

        Args:
            images: Batches (B, 3, H, W), values in [0, 1].

        Raises:
            ValueError: If there are no images, or features are not finite.
        """
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
        """What scores are made of, ``distance`` and, where it has a part in them, ``uncertainty``."""
        if self.uncertainty is None or self.mc_samples == 0:
            return {"distance": self.distance}
        return {"distance": self.distance, "uncertainty": self.uncertainty}

    @torch.no_grad()
    def _map_shapes(self, image_size: tuple[int, int]) -> list[tuple[int, int, int]]:
        """Shape (C, h, w) of the maps of the scored stages."""
        self.encoder.eval()
        maps = self.encoder.maps(torch.zeros(1, 3, *image_size))
        self.encoder.train()
        return [(features.shape[1], features.shape[2], features.shape[3]) for features in maps]
