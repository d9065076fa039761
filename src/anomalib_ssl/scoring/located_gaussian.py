# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""One Gaussian density at each location of a grid, for objects that lie alike in every image."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch

from anomalib_ssl.checks import check_whole
from anomalib_ssl.scoring.density import Density
from anomalib_ssl.scoring.maps import as_rows

IMAGES_FOR_DIRECTIONS = 64
"""The first so many images decide the principal directions: with all their places they are thousands of features."""


class LocatedGaussianDensity(Density):
    """Anomaly scores from a separate Gaussian at each location of a feature map.

    For aligned objects, Li et al., CVPR 2021, fit a Gaussian of its own at each of the 57 x 57 locations (appendix
    A.5). In 512 dimensions these are 3.4 GB, and singular wherever there are fewer training images than dimensions; the
    paper does not say how it copes. Here the features are first projected to the leading principal directions of the
    features of all locations of the first 64 images. (PaDiM, Defard et al., 2020, has Gaussians like these, in 100
    dimensions chosen at random.) The score is half the squared Mahalanobis distance (equation 2 of the paper).

    Where features are several kinds put together, each kind has principal directions of its own, brought to the same
    variance: how many of a kind are kept then decides how much it counts, not its scale nor its length.

    Directions, means and whitening matrices are buffers: they travel with the state dict and into exported graphs.

    Args:
        num_features: Length D of a feature, or the lengths of the kinds that it is put together of.
        grid_size: Height h and width w of the feature maps.
        dims: Number of principal directions kept, at most ``num_features``; one for each kind.
        l2_normalize: Whether features are scaled to unit length.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> batches = [torch.randn(5, 8, 3, 3, generator=torch.Generator().manual_seed(i)) for i in range(4)]
        >>> density = LocatedGaussianDensity(8, (3, 3), dims=6).fit(batches)
        >>> density(batches[0]).shape
        torch.Size([5, 1, 3, 3])
    """

    ridge = 0.01
    """Added to the diagonals of the covariances, as a part of the mean variance over all locations and directions."""

    projection: torch.Tensor
    mean: torch.Tensor
    whitening: torch.Tensor

    def __init__(
        self,
        num_features: int | Sequence[int],
        grid_size: tuple[int, int],
        dims: int | Sequence[int],
        l2_normalize: bool = True,
    ) -> None:
        super().__init__(l2_normalize)
        for side in grid_size:
            check_whole("grid_size", side, 1)
        lengths = list(num_features) if isinstance(num_features, Sequence) else [num_features]
        kept = list(dims) if isinstance(dims, Sequence) else [dims]
        if len(kept) != len(lengths):
            msg = f"dims must be one number for each of num_features, {lengths}, got {kept}."
            raise ValueError(msg)
        for length, number in zip(lengths, kept, strict=True):
            check_whole("dims", number, 1, length)
        self.grid_size = grid_size
        self._kinds = list(zip(lengths, kept, strict=True))
        num_locations = grid_size[0] * grid_size[1]
        self._first: list[torch.Tensor] = []
        self._moments_here: _Moments | None = None
        self.register_buffer("projection", torch.zeros(0, sum(lengths)))
        self.register_buffer("mean", torch.zeros(num_locations, 0))
        self.register_buffer("whitening", torch.zeros(num_locations, 0, 0))
        self._make_room(sum(kept))

    def start(self) -> None:
        """Forget what was fitted; :meth:`update` and :meth:`finish` follow."""
        self.forget()
        self._make_room(sum(number for _, number in self._kinds))
        self._first, self._moments_here = [], None

    @torch.no_grad()
    def update(self, features: torch.Tensor) -> None:
        """Take feature maps (B, D, h, w) of normal images into account.

        The first images are kept until there are enough of them to find the principal directions. Then moments are
        accumulated in float64: 8 bytes for each of h * w * dims^2 products, read and written once a batch, which is
        why batches of several images are faster.

        Raises:
            ValueError: If the shape is another.
        """
        features = self._checked(features)
        if self._moments_here is not None:
            self._add(features, self._moments_here)
            return
        self._first.append(features)
        if sum(map(len, self._first)) >= IMAGES_FOR_DIRECTIONS:
            self._find_directions()

    @torch.no_grad()
    def finish(self) -> None:
        """End what :meth:`start` began.

        Raises:
            ValueError: If there are fewer than 2 images, or features are not finite.
        """
        if self._moments_here is None:
            self._find_directions()
        moments = cast("_Moments", self._moments_here)
        mean = moments.total / moments.count
        if not mean.isfinite().all():
            msg = "features must be finite, got NaN or infinity: has the training diverged?"
            raise ValueError(msg)
        covariance = moments.outer.div_(moments.count).baddbmm_(mean.unsqueeze(2), mean.unsqueeze(1), alpha=-1)
        self.mean.copy_(mean + moments.shift)
        self._whiten(covariance)
        self._moments_here = None
        self._set_fitted(moments.count)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Score feature maps.

        Args:
            features: Shape (B, D, h, w).

        Returns:
            Half the squared Mahalanobis distance to the normal features of the same location, shape (B, 1, h, w).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
            ValueError: If the shape is another.
        """
        self.require_fitted()
        deviations = self._reduce(self._checked(features)) - self.mean.unsqueeze(1)
        scores = 0.5 * (deviations @ self.whitening.mT).square().sum(dim=2)
        return scores.T.reshape(-1, 1, *self.grid_size)

    def _make_room(self, dims: int) -> None:
        """Make the buffers of a number of directions, if they are not."""
        if len(self.projection) != dims:
            with torch.inference_mode(False):  # they outlive the validation that they are fitted in
                self.projection = self.projection.new_zeros(dims, self.projection.shape[1])
                self.mean = self.mean.new_zeros(len(self.mean), dims)
                self.whitening = self.whitening.new_zeros(len(self.mean), dims, dims)

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
        # How many directions there are is a part of the state: pretrained networks have more of them, and a checkpoint
        # of one is read into a model without such weights.
        saved = state_dict.get(f"{prefix}projection")
        if saved is not None:
            self._make_room(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _checked(self, features: torch.Tensor) -> torch.Tensor:
        expected = (self.projection.shape[1], *self.grid_size)
        if tuple(features.shape[1:]) != expected:
            msg = f"features must have the shape (B, {', '.join(map(str, expected))}), got {tuple(features.shape)}."
            raise ValueError(msg)
        return features

    def _reduce(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, D, h, w) in principal directions and location by location, shape (h * w, B, dims)."""
        reduced = self._scale(as_rows(features.to(self.projection))) @ self.projection.T
        return reduced.reshape(-1, *self.mean.shape).transpose(0, 1)

    def _find_directions(self) -> None:
        """Find the directions from the images that wait, and begin with their moments."""
        waiting, self._first = self._first, []
        count = sum(map(len, waiting))
        if count < 2:
            msg = f"features must be of at least 2 images, got {count}."
            raise ValueError(msg)
        features = torch.cat(waiting)
        # However the images are divided into batches, the same ones decide.
        shared = self._no_moments(self.projection.shape[1])
        self._take(as_rows(features[:IMAGES_FOR_DIRECTIONS]), shared)
        shared.require_samples()
        self.projection.copy_(_leading_directions(shared.covariance(), self._kinds))
        # Sums are taken of differences from a mean, so that little is lost when their own is removed at the end.
        shift = self.projection.to(shared.mean) @ shared.mean
        zeros = partial(torch.zeros_like, dtype=torch.float64, device=shift.device)
        self._moments_here = _Moments(shift, zeros(self.mean), zeros(self.whitening))
        self._add(features, self._moments_here)

    def _add(self, features: torch.Tensor, moments: "_Moments") -> None:
        reduced = self._reduce(features).to(moments.shift) - moments.shift
        moments.total += reduced.sum(dim=1)
        moments.outer.baddbmm_(reduced.mT, reduced)
        moments.count += len(features)

    def _whiten(self, covariance: torch.Tensor) -> None:
        """Set the whitening matrices, inverses of the Cholesky factors; overwrites its argument."""
        variance = covariance.diagonal(dim1=1, dim2=2)
        # With fewer images than dimensions the ridge stands for all variance outside the span of the images, so it must
        # grow and shrink with the features; the fixed 1e-6 of GaussianDensity suits unit length and many samples. It is
        # one value for all locations: relative to its own variance, a plain background that hardly varies would give
        # large scores to the least deviation.
        variance += (self.ridge * variance.mean()).clamp(min=1e-12)
        identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        # Some locations at a time, for the sake of memory.
        for part, whitening in zip(covariance.split(256), self.whitening.split(256), strict=True):
            whitening.copy_(torch.linalg.solve_triangular(torch.linalg.cholesky(part), identity, upper=False))


def _leading_directions(covariance: torch.Tensor, kinds: Sequence[tuple[int, int]]) -> torch.Tensor:
    """Leading principal directions of each kind of features, of the same mean variance if there are several.

    Args:
        covariance: Shape (D, D).
        kinds: Length and number of directions of each.

    Returns:
        Shape (dims, D).
    """
    found, start = [], 0
    for length, number in kinds:
        here = slice(start, start + length)
        variances, directions = torch.linalg.eigh(covariance[here, here])
        leading = directions.T.flip(0)[:number]
        if len(kinds) > 1:
            leading = leading / variances[-number:].mean().clamp(min=1e-12).sqrt()
        found.append(leading)
        start += length
    return torch.block_diag(*found)


@dataclass
class _Moments:
    """Number, sums (h * w, dims) and sums of products (h * w, dims, dims) of reduced features, less the ``shift``."""

    shift: torch.Tensor
    total: torch.Tensor
    outer: torch.Tensor
    count: int = 0
