# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How large a reconstruction error is to be expected, given how rich in contrast a place is."""

from collections.abc import Iterable

import torch
from torch import nn

from anomalib_ssl.scoring import NotFittedError
from anomalib_ssl.scoring.box_filter import box_filter

LEAST_CONSTANT = 0.1
"""Least part of the mean error that is expected where there is no contrast at all, so that nothing is divided by 0."""


class ContrastScale(nn.Module):
    """Divide smoothed squared errors by what is normal at a place of their contrast.

    Autoencoders blur: on textures the squared error follows the local variance of the image, and images rich in
    contrast look more anomalous than defects. Here the normal error is modelled as ``constant + slope * variance``,
    fitted to clean images by least squares with both numbers positive. A divided error of 1 is normal everywhere. This
    is this package's choice; it is not in the paper.

    Args:
        box_size: Side in pixels of the window over which variances are taken, odd.
        box_passes: How many times that window is applied; as the errors are smoothed.

    Example:
        >>> import torch
        >>> scale = ContrastScale(3, 1)
        >>> images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> errors = 0.01 + 0.5 * local_variance(images, 3, 1)
        >>> scale.fit([(errors, images)])
        >>> [round(float(value), 4) for value in (scale.constant, scale.slope)]
        [0.01, 0.5]
        >>> torch.allclose(scale(errors, images), torch.ones(2, 1, 16, 16))
        True
    """

    count: torch.Tensor
    constant: torch.Tensor
    slope: torch.Tensor

    def __init__(self, box_size: int, box_passes: int) -> None:
        super().__init__()
        self.box_size = box_size
        self.box_passes = box_passes
        self.is_fitted = False
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("constant", torch.ones(()))
        self.register_buffer("slope", torch.zeros(()))

    def forward(self, errors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Divide errors by the normal ones.

        Args:
            errors: Smoothed squared errors, shape (B, 1, H, W).
            images: What shows the contrast, images or their reconstructions, shape (B, C, H, W).

        Returns:
            Shape (B, 1, H, W).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        if not self.is_fitted:
            msg = "The contrast scale of errors has not been fitted: train the model or load a trained checkpoint."
            raise NotFittedError(msg)
        variance = local_variance(images, self.box_size, self.box_passes)
        return errors / (self.constant + self.slope * variance)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Estimate the normal error from pairs of errors and images, as :meth:`forward` takes them, in one pass.

        Raises:
            ValueError: If there are none.
        """
        # Sums of 1, v, e, v * v and v * e for variances v and errors e. Means of batches first, then float64 on the
        # host: exact enough, and one transfer a batch.
        sums = torch.zeros(5, dtype=torch.float64)
        for errors, images in batches:
            variance = local_variance(images, self.box_size, self.box_passes)
            terms = (torch.ones_like(errors), variance, errors, variance.square(), variance * errors)
            sums += torch.stack([term.mean() for term in terms]).cpu().double() * errors.numel()
        count = int(sums[0])
        if count == 0:
            msg = "The contrast scale of errors needs clean images, got none."
            raise ValueError(msg)
        constant, slope = _positive_line(*(sums / count).tolist()[1:])
        self.constant.fill_(constant)
        self.slope.fill_(slope)
        self.count.fill_(count)
        self.is_fitted = True

    def _load_from_state_dict(self, *args: object, **kwargs: object) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        # Kept as a plain bool: reading the buffer at every score would synchronise with the device.
        self.is_fitted = bool(self.count > 0)


def local_variance(images: torch.Tensor, box_size: int, box_passes: int) -> torch.Tensor:
    """Variance of the pixels around each pixel, the mean over the channels.

    Args:
        images: Shape (B, C, H, W).
        box_size: Side in pixels of the window, odd.
        box_passes: How many times the window is applied, which makes it wider and its weights bell-shaped.

    Returns:
        Shape (B, 1, H, W).
    """
    # Around the centre of the value range, since squares of large numbers cancel badly.
    images = images - 0.5
    mean = box_filter(images, box_size, box_passes)
    variance = box_filter(images.square(), box_size, box_passes) - mean.square()
    return variance.mean(dim=1, keepdim=True).clamp(min=0)


def _positive_line(variance: float, error: float, variance_square: float, product: float) -> tuple[float, float]:
    """Constant and slope, neither negative, from means of v, e, v * v and v * e."""
    least = max(LEAST_CONSTANT * error, 1e-12)
    spread = variance_square - variance**2
    slope = (product - variance * error) / spread if spread > 1e-6 * variance_square else 0.0
    if slope <= 0:
        return max(error, least), 0.0
    constant = error - slope * variance
    if constant < least:
        # The best line through the least constant that is allowed.
        constant, slope = least, max((product - least * variance) / variance_square, 0.0)
    return constant, slope
