# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gaussian density of normal features: fitting, scoring and the score's gradient."""

import logging
from collections.abc import Iterable
from typing import Literal

import torch

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.scoring.density import Density
from anomalib_ssl.scoring.moments import Moments

logger = logging.getLogger(__name__)

SHRINKAGES = ("ridge", "ledoit_wolf")
"""Names of the covariance estimators."""


def fit_gaussian(
    features: torch.Tensor, shrinkage: str = "ridge", ridge: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate a Gaussian in float64.

    Args:
        features: Shape (N, D), N of at least 2.
        shrinkage: ``ridge`` adds ``ridge`` to the diagonal of the maximum likelihood covariance; ``ledoit_wolf`` blends
            it with a scaled identity, see :meth:`Moments.ledoit_wolf_shrinkage`.
        ridge: The value added; the least that ``ledoit_wolf`` adds.

    Returns:
        The mean (D,), and the whitening matrix (D, D): the inverse of the covariance's Cholesky factor, so that the
        squared length of a whitened deviation is its squared Mahalanobis distance.

    Raises:
        ValueError: If there are fewer than 2 features, any is not finite, or the ridge is lost beside their variance.
    """
    return estimate_gaussian(Moments(features.shape[-1], features.device).update(features), shrinkage, ridge)


def estimate_gaussian(
    moments: Moments, shrinkage: str = "ridge", ridge: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate a Gaussian from moments; arguments, result and errors are those of :func:`fit_gaussian`."""
    check_choice("shrinkage", shrinkage, SHRINKAGES)
    moments.require_samples()
    covariance = moments.covariance()
    identity = torch.eye(moments.num_features, dtype=torch.float64, device=moments.device)
    if shrinkage == "ridge":
        covariance = covariance + ridge * identity
    else:
        weight = moments.ledoit_wolf_shrinkage()
        mean_variance = covariance.trace() / moments.num_features
        # The estimated weight is zero for two samples, and for features that are all alike there is no variance.
        diagonal = (weight * mean_variance).clamp(min=ridge)
        covariance = (1 - weight) * covariance + diagonal * identity
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if failed.any():
        msg = (
            f"The covariance of features with a mean variance of {covariance.diagonal().mean():.3g} is too close to "
            f"singular for ridge={ridge:g}: raise it, scale features to unit length or use shrinkage='ledoit_wolf'."
        )
        raise ValueError(msg)
    return moments.mean, torch.linalg.solve_triangular(factor, identity, upper=False)


class GaussianDensity(Density):
    """Anomaly score from one Gaussian over the features of normal images.

    The score is the negative log-density up to a constant, half the squared Mahalanobis distance (Li et al., CVPR 2021,
    equation 2). Scaling features to unit length first, and the ridge of 1e-6, follow the same group's one-class code
    (deep_representation_one_class); the paper names neither.

    Mean and whitening matrix are buffers: they travel with the state dict and into exported graphs.

    Args:
        num_features: Length D of a feature.
        shrinkage: Covariance estimator, ``ridge`` or ``ledoit_wolf``.
        l2_normalize: Whether features are scaled to unit length.
        ridge: Value added to the diagonal by the estimator ``ridge``, above 0; the least that ``ledoit_wolf`` adds.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> features = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
        >>> density = GaussianDensity(8, l2_normalize=False).fit([features])
        >>> bool(density(features).mean() < density(features + 3).mean())
        True
    """

    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(
        self,
        num_features: int,
        shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        l2_normalize: bool = True,
        ridge: float = 1e-6,
    ) -> None:
        super().__init__(l2_normalize)
        check_choice("shrinkage", shrinkage, SHRINKAGES)
        check_number("ridge", ridge, 1e-12)
        self.shrinkage = shrinkage
        self.ridge = ridge
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("whitening", torch.zeros(num_features, num_features))

    def fit(self, batches: Iterable[torch.Tensor]) -> "GaussianDensity":
        """Estimate the density from batches of features of normal images, in one pass and without keeping them.

        Args:
            batches: Features of shape (N_i, D) each. How they are divided changes the rounding of float64 alone.

        Returns:
            This density.

        Raises:
            ValueError: If a shape is another, or for the reasons of :func:`fit_gaussian`.
        """
        self.forget()
        num_features = len(self.mean)
        moments = self._moments(batches, num_features)
        if moments.count <= num_features:
            logger.info(
                "%d normal samples for %d features: their covariance is singular and is made invertible by %s.",
                moments.count,
                num_features,
                f"a ridge of {self.ridge:g}" if self.shrinkage == "ridge" else "Ledoit-Wolf shrinkage",
            )
        mean, whitening = estimate_gaussian(moments, self.shrinkage, self.ridge)
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)
        self._set_fitted(moments.count)
        return self

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Score features.

        Args:
            features: Shape (B, D).

        Returns:
            Half the squared Mahalanobis distance to the normal features, shape (B,).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        return 0.5 * self._whiten(self._scale(features)).square().sum(dim=1)

    def gradient(self, features: torch.Tensor) -> torch.Tensor:
        """Gradient of the score with respect to each feature, in closed form, shape (B, D).

        With ``z = f / |f|`` and precision ``P``, the gradient of ``0.5 (z - m)' P (z - m)`` is
        ``(g - (g'z) z) / |f|`` for ``g = P (z - m)``: the scaling removes what points along the feature.

        Raises:
            NotFittedError: If the density has not been fitted.
        """
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
