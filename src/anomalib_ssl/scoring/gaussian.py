# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gaussian density of normal features: fitting, scoring and the score's gradient."""

import logging
from typing import cast

import torch

from anomalib_ssl.scoring.density import Density
from anomalib_ssl.scoring.moments import Moments

logger = logging.getLogger(__name__)

LEAST_VARIANCE = 1e-6
"""Least variance of any direction, and the least share of the mean one: features may be all alike."""


def estimate_gaussian(moments: Moments) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate a Gaussian in float64, its covariance as Ledoit and Wolf do.

    Args:
        moments: Of features (N, D), N of at least 2.

    Returns:
        The mean (D,), and the whitening matrix (D, D): the inverse of the covariance's Cholesky factor, so that the
        squared length of a whitened deviation is its squared Mahalanobis distance.

    Raises:
        ValueError: If there are fewer than 2 features, or any is not finite.
    """
    moments.require_samples()
    covariance = moments.covariance()
    weight = moments.ledoit_wolf_shrinkage()
    mean_variance = covariance.trace() / moments.num_features
    # The estimated weight is zero for two samples, and for features that are all alike there is no variance.
    diagonal = (weight.clamp(min=LEAST_VARIANCE) * mean_variance).clamp(min=LEAST_VARIANCE)
    identity = torch.eye(moments.num_features, dtype=torch.float64, device=moments.device)
    factor = torch.linalg.cholesky((1 - weight) * covariance + diagonal * identity)
    return moments.mean, torch.linalg.solve_triangular(factor, identity, upper=False)


class GaussianDensity(Density):
    """Anomaly score from one Gaussian over the features of normal images.

    The score is the negative log-density up to a constant, half the squared Mahalanobis distance (Li et al., CVPR 2021,
    equation 2). Scaling features to unit length first follows the same group's one-class code
    (deep_representation_one_class), which adds 1e-6 to the variances where this has Ledoit and Wolf's estimate, of
    at least as much; the paper names neither, and the two scored alike (docs/results/cutpaste.md).

    Mean and whitening matrix are buffers: they travel with the state dict and into exported graphs.

    Args:
        num_features: Length D of a feature.
        l2_normalize: Whether features are scaled to unit length.

    Example:
        >>> import torch
        >>> features = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
        >>> density = GaussianDensity(8, l2_normalize=False).fit([features])
        >>> bool(density(features).mean() < density(features + 3).mean())
        True
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, num_features: int, l2_normalize: bool = True) -> None:
        super().__init__(l2_normalize)
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("whitening", torch.zeros(num_features, num_features))
        # Only while it is being fitted: exported and copied models shall not carry it.
        self._moments: Moments | None = None

    def start(self) -> None:
        """Forget what was fitted; :meth:`update` and :meth:`finish` follow."""
        self.forget()
        self._moments = self._no_moments(len(self.mean))

    def update(self, features: torch.Tensor) -> None:
        """Take features (N, D) of normal images into account.

        Raises:
            ValueError: If the shape is another.
        """
        self._take(features, cast("Moments", self._moments))

    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: For the reasons of :func:`estimate_gaussian`.
        """
        moments, num_features = cast("Moments", self._moments), len(self.mean)
        if moments.count <= num_features:
            logger.info(
                "%d normal samples for %d features: their covariance is singular, but for its shrinkage.",
                moments.count,
                num_features,
            )
        mean, whitening = estimate_gaussian(moments)
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)
        self._moments = None
        self._set_fitted(moments.count)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Score features.

        Args:
            features: Shape (B, D).

        Returns:
            Half the squared Mahalanobis distance to the normal features, shape (B,).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        return 0.5 * self._whiten(self._scale(features.to(self.mean))).square().sum(dim=1)

    def gradient(self, features: torch.Tensor) -> torch.Tensor:
        """Gradient of the score with respect to each feature, in closed form, shape (B, D).

        With ``z = f / |f|`` and precision ``P``, the gradient of ``0.5 (z - m)' P (z - m)`` is
        ``(g - (g'z) z) / |f|`` for ``g = P (z - m)``: the scaling removes what points along the feature.

        Raises:
            NotFittedError: If the density has not been fitted.
        """
        features = features.to(self.mean)
        scaled = self._scale(features)
        gradient = self._whiten(scaled) @ self.whitening
        if not self.l2_normalize:
            return gradient
        radial = (gradient * scaled).sum(dim=1, keepdim=True) * scaled
        return (gradient - radial) / features.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def _whiten(self, features: torch.Tensor) -> torch.Tensor:
        self.require_fitted()
        # Transposed here and there instead of the constant: OpenVINO's reader of ONNX files transposes that in place,
        # and the gradient, which multiplies with it too, came out wrong.
        return (self.whitening @ (features - self.mean).T).T
