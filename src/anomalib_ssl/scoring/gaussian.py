# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Gaussian density of normal features: fitting, scoring and the score's gradient."""

import logging
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_choice, check_number

logger = logging.getLogger(__name__)

SHRINKAGES = ("ridge", "ledoit_wolf")
"""Names of the covariance estimators."""


class NotFittedError(RuntimeError):
    """Raised when scores are asked of a density that has not been fitted."""


def ledoit_wolf_shrinkage(centered: torch.Tensor) -> torch.Tensor:
    """Weight of the scaled identity in the Ledoit-Wolf covariance estimate.

    Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of Multivariate
    Analysis 88, 2004, lemma 3.2 to 3.5; equal to ``sklearn.covariance.ledoit_wolf_shrinkage``.

    Args:
        centered: Features with their mean removed, shape (N, D).

    Returns:
        The weight in [0, 1], a scalar.
    """
    num_samples, dim = centered.shape
    covariance = centered.T @ centered / num_samples
    mean_variance = covariance.trace() / dim
    dispersion = (covariance.square().sum() - dim * mean_variance.square()) / dim
    fourth_moment = centered.square().sum(dim=1).square().sum() / num_samples
    error = (fourth_moment - covariance.square().sum()) / (dim * num_samples)
    error = error.minimum(dispersion)
    return torch.where(error > 0, error / dispersion, torch.zeros_like(error))


def fit_gaussian(
    features: torch.Tensor, shrinkage: str = "ridge", ridge: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimate a Gaussian in float64.

    Args:
        features: Shape (N, D), N of at least 2.
        shrinkage: ``ridge`` adds ``ridge`` to the diagonal of the maximum likelihood covariance; ``ledoit_wolf`` blends
            it with a scaled identity, see :func:`ledoit_wolf_shrinkage`.
        ridge: The value added; the least that ``ledoit_wolf`` adds.

    Returns:
        The mean (D,), and the whitening matrix (D, D): the inverse of the covariance's Cholesky factor, so that the
        squared length of a whitened deviation is its squared Mahalanobis distance.

    Raises:
        ValueError: If there are fewer than 2 features, any is not finite, or the ridge is lost beside their variance.
    """
    check_choice("shrinkage", shrinkage, SHRINKAGES)
    if features.ndim != 2 or len(features) < 2:
        msg = f"features must have the shape (N, D) with N of at least 2, got {tuple(features.shape)}."
        raise ValueError(msg)
    features = features.double()
    if not features.isfinite().all():
        msg = "features must be finite, got NaN or infinity: has the training diverged?"
        raise ValueError(msg)
    mean = features.mean(dim=0)
    centered = features - mean
    covariance = centered.T @ centered / len(features)
    identity = torch.eye(features.shape[1], dtype=torch.float64, device=features.device)
    if shrinkage == "ridge":
        covariance = covariance + ridge * identity
    else:
        weight = ledoit_wolf_shrinkage(centered)
        mean_variance = covariance.trace() / features.shape[1]
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
    return mean, torch.linalg.solve_triangular(factor, identity, upper=False)


class GaussianDensity(nn.Module):
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
        >>> density = GaussianDensity(8, l2_normalize=False).fit(features)
        >>> bool(density(features).mean() < density(features + 3).mean())
        True
    """

    mean: torch.Tensor
    whitening: torch.Tensor
    num_samples: torch.Tensor

    def __init__(
        self,
        num_features: int,
        shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        l2_normalize: bool = True,
        ridge: float = 1e-6,
    ) -> None:
        super().__init__()
        check_choice("shrinkage", shrinkage, SHRINKAGES)
        check_number("ridge", ridge, 1e-12)
        self.shrinkage = shrinkage
        self.l2_normalize = l2_normalize
        self.ridge = ridge
        self.is_fitted = False
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("whitening", torch.zeros(num_features, num_features))
        self.register_buffer("num_samples", torch.zeros((), dtype=torch.long))

    def fit(self, features: torch.Tensor) -> "GaussianDensity":
        """Estimate the density from features of normal images, shape (N, D); see :func:`fit_gaussian`."""
        num_samples, dim = features.shape
        if num_samples <= dim:
            logger.info(
                "%d training images for %d features: their covariance is singular and is made invertible by %s.",
                num_samples,
                dim,
                f"a ridge of {self.ridge:g}" if self.shrinkage == "ridge" else "Ledoit-Wolf shrinkage",
            )
        # On the host, since not every accelerator has float64; and in float64 before scaling already.
        features = features.detach().cpu().double()
        mean, whitening = fit_gaussian(self._scale(features), self.shrinkage, self.ridge)
        self.mean.copy_(mean)
        self.whitening.copy_(whitening)
        self.num_samples.fill_(num_samples)
        self.is_fitted = True
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

    def _scale(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(features, dim=1) if self.l2_normalize else features

    def _whiten(self, features: torch.Tensor) -> torch.Tensor:
        if not self.is_fitted:
            msg = "The density of normal features has not been fitted: train the model or load a trained checkpoint."
            raise NotFittedError(msg)
        return (features - self.mean) @ self.whitening.T

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # Kept as a plain bool: reading the buffer at every score would synchronise with the device.
        self.is_fitted = bool(self.num_samples > 0)
