# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Moments of features that arrive in batches: all that Gaussian estimators need, in one pass and little memory."""

import torch


class Moments:
    """Mean, covariance and Ledoit-Wolf shrinkage of a stream of features, accumulated in float64.

    Sums are taken of ``y = x - s``, where the shift ``s`` is the mean of the first batch, so that little is lost when
    the mean is removed at the end. With ``d`` the mean of ``y`` and ``q = |y|^2``, the covariance is ``sum y y' / N -
    d d'``, and the fourth moment that Ledoit and Wolf ask for expands to sums as well::

        sum |y - d|^4 = sum q^2 - 4 d'sum(q y) + 4 d'sum(y y')d + 2 |d|^2 sum q - 3 N |d|^4

    The products are float64 too. In float32 they would take half the time but err by some 2e-7 of the largest
    eigenvalue, which for features of unit length can come near the least variance of 1e-6.

    Args:
        num_features: Length D of a feature.
        device: Where to accumulate; it must have float64.

    Example:
        >>> import torch
        >>> moments = Moments(2).update(torch.tensor([[0.0, 1.0]])).update(torch.tensor([[2.0, 1.0]]))
        >>> moments.mean.tolist(), moments.covariance().tolist()
        ([1.0, 1.0], [[1.0, 0.0], [0.0, 0.0]])
    """

    def __init__(self, num_features: int, device: torch.device | str = "cpu") -> None:
        self.num_features = num_features
        self.count = 0
        zeros = torch.zeros(num_features, dtype=torch.float64, device=device)
        self.device = zeros.device
        self._shift = zeros
        self._sum = zeros.clone()
        self._outer = torch.diag(zeros)
        self._weighted_sum = zeros.clone()
        self._fourth = zeros.new_zeros(())

    @torch.no_grad()
    def update(self, features: torch.Tensor) -> "Moments":
        """Add features.

        Args:
            features: Shape (N, D), any N.

        Returns:
            These moments.

        Raises:
            ValueError: If the shape is another.
        """
        if features.ndim != 2 or features.shape[1] != self.num_features:
            msg = f"features must have the shape (N, {self.num_features}), got {tuple(features.shape)}."
            raise ValueError(msg)
        if len(features) == 0:
            return self
        features = features.to(self.device, torch.float64)
        if self.count == 0:
            self._shift = features.mean(dim=0)
        shifted = features - self._shift
        squared_length = shifted.square().sum(dim=1)
        self._sum += shifted.sum(dim=0)
        self._outer.addmm_(shifted.T, shifted)
        self._weighted_sum.addmv_(shifted.T, squared_length)
        self._fourth += squared_length.square().sum()
        self.count += len(features)
        return self

    def require_samples(self) -> None:
        """Check that a covariance can be estimated.

        Raises:
            ValueError: If there are fewer than 2 features, or any is not finite.
        """
        if self.count < 2:
            msg = f"features must have the shape (N, D) with N of at least 2, got N={self.count}."
            raise ValueError(msg)
        # Whatever is not finite stays so in every sum: one look at the end replaces one at every batch.
        if not self._outer.isfinite().all():
            msg = "features must be finite, got NaN or infinity: has the training diverged?"
            raise ValueError(msg)

    @property
    def mean(self) -> torch.Tensor:
        """Mean of the features, shape (D,)."""
        return self._shift + self._sum / self.count

    def covariance(self) -> torch.Tensor:
        """Maximum likelihood covariance (divided by N), shape (D, D)."""
        offset = self._sum / self.count
        return self._outer / self.count - torch.outer(offset, offset)

    def ledoit_wolf_shrinkage(self) -> torch.Tensor:
        """Weight in [0, 1] of the scaled identity in the Ledoit-Wolf covariance estimate, a scalar.

        Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", Journal of
        Multivariate Analysis 88, 2004, lemma 3.2 to 3.5; equal to ``sklearn.covariance.ledoit_wolf_shrinkage``.
        """
        offset = self._sum / self.count
        offset_square = offset.square().sum()
        fourth_moment = (
            self._fourth / self.count
            - 4 * offset @ self._weighted_sum / self.count
            + 4 * offset @ self._outer @ offset / self.count
            + 2 * offset_square * self._outer.trace() / self.count
            - 3 * offset_square.square()
        )
        covariance = self.covariance()
        squares = covariance.square().sum()
        mean_variance = covariance.trace() / self.num_features
        dispersion = (squares - self.num_features * mean_variance.square()) / self.num_features
        error = (fourth_moment - squares) / (self.num_features * self.count)
        error = error.minimum(dispersion)
        return torch.where(error > 0, error / dispersion, torch.zeros_like(error))


@torch.no_grad()
def update_mean_and_variance(mean: torch.Tensor, variance: torch.Tensor, count: int, values: torch.Tensor) -> int:
    """Take further samples into a mean and a variance, in place, by Chan, Golub and LeVeque's rule.

    Args:
        mean: Mean of the samples so far, their shape.
        variance: Their variance, divided by their number.
        count: Their number.
        values: Samples along the first axis.

    Returns:
        The number of all samples.
    """
    added, means = torch.var_mean(values.to(mean.dtype), dim=0, correction=0)
    total = count + len(values)
    share, shift = len(values) / total, means - mean
    # The mean square of what was there and of what is added, and that of the distance between their means.
    variance.lerp_(added, share).add_(shift.square(), alpha=share * (1 - share))
    mean.add_(shift, alpha=share)
    return total
