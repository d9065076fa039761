# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How large a reconstruction error is to be expected, given how rich in contrast a place and its image are."""

from collections.abc import Iterable

import torch

from anomalib_ssl.scoring.box_filter import box_filter
from anomalib_ssl.scoring.fitted import Fitted

LEAST_CONSTANT = 0.1
"""Least part of the mean error that is expected where there is no contrast at all, so that nothing is divided by 0."""

LEAST_CONTRAST = 1e-8
"""Least contrast of an image, far below that of one step in 8 bits, so that flat images have a logarithm."""


class ContrastScale(Fitted):
    """Divide smoothed squared errors by what is normal at a place of their contrast, in an image of its contrast.

    Autoencoders blur: the squared error follows the contrast of what is blurred, and sound images rich in contrast look
    more anomalous than defects in poor ones. Here the normal error is modelled as::

        (constant + slope * v) * (c / reference) ** exponent

    with the local variance v and the :func:`image_contrast` c. It is fitted to clean images in closed form: the
    exponent is the slope of a straight line through the logarithms of contrast and mean error of each image, within
    [0, 1]; constant and slope, both positive, are the least squares of the errors that remain. Contrasts beyond those
    of the clean images count as the nearest one of theirs. A divided error of 1 is normal everywhere. This is this
    package's choice; it is not in the paper.

    Args:
        box_size: Side in pixels of the window over which variances are taken, odd.

    Example:
        >>> import torch
        >>> scale = ContrastScale(3)
        >>> images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> errors = 0.01 + 0.5 * local_variance(images, 3)
        >>> scale.fit([(errors, images)])
        >>> [round(float(value), 4) for value in (scale.constant, scale.slope, scale.exponent)]
        [0.01, 0.5, 0.0]
        >>> torch.allclose(scale(errors, images), torch.ones(2, 1, 16, 16))
        True
    """

    constant: torch.Tensor
    slope: torch.Tensor
    exponent: torch.Tensor
    log_contrasts: torch.Tensor

    def __init__(self, box_size: int) -> None:
        super().__init__()
        self.box_size = box_size
        self.register_buffer("constant", torch.ones(()))
        self.register_buffer("slope", torch.zeros(()))
        self.register_buffer("exponent", torch.zeros(()))
        # Least, mean and largest logarithm of the contrast of clean images.
        self.register_buffer("log_contrasts", torch.zeros(3))

    def forward(self, errors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Divide errors by the normal ones.

        Args:
            errors: Smoothed squared errors, shape (B, 1, H, W).
            images: The images, which show the contrast of a place and of the whole, shape (B, C, H, W).

        Returns:
            Shape (B, 1, H, W).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        self.require_fitted()
        variance = local_variance(images, self.box_size)
        least, mean, most = self.log_contrasts
        richness = image_contrast(images).log().clamp(min=least, max=most) - mean
        level = (self.exponent * richness).exp().view(-1, 1, 1, 1)
        return errors / ((self.constant + self.slope * variance) * level)

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Estimate the normal error from errors and images, as :meth:`forward` takes them, in one pass.

        Raises:
            ValueError: If there are none, or any is not finite.
        """
        self.forget()
        # Of each image the means of v, e, v * v and v * e for variances v and errors e, and the contrast: the level of
        # an image is a factor of its errors, so these are all that is needed of the pixels.
        measured = [self._measure(*batch) for batch in batches]
        if not measured:
            msg = "The contrast scale of errors needs clean images, got none."
            raise ValueError(msg)
        # On the host in float64: exact enough, and one transfer.
        variance, error, variance_square, product, contrast = torch.cat(measured).cpu().double().unbind(dim=1)
        contrast = contrast.log()
        exponent = _exponent(contrast, error)
        level = (exponent * (contrast - contrast.mean())).exp()
        means = [values.mean() for values in (variance, error / level, variance_square, product / level)]
        constant, slope = _positive_line(*torch.stack(means).tolist())
        self.constant.fill_(constant)
        self.slope.fill_(slope)
        self.exponent.fill_(exponent)
        self.log_contrasts.copy_(torch.stack([contrast.min(), contrast.mean(), contrast.max()]))
        self._set_fitted(len(contrast))

    def _measure(self, errors: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """What is needed of each image, shape (B, 5)."""
        variance = local_variance(images, self.box_size)
        terms = (variance, errors, variance.square(), variance * errors)
        return torch.stack([*(term.mean(dim=(1, 2, 3)) for term in terms), image_contrast(images)], dim=1)


def image_contrast(images: torch.Tensor) -> torch.Tensor:
    """How rich in contrast whole images are: the mean squared difference of neighbouring pixels, at least 1e-8.

    Args:
        images: Shape (B, C, H, W), values in [0, 1].

    Returns:
        Shape (B,).
    """
    across = (images[..., 1:] - images[..., :-1]).square().mean(dim=(1, 2, 3))
    down = (images[..., 1:, :] - images[..., :-1, :]).square().mean(dim=(1, 2, 3))
    return (across + down).clamp(min=LEAST_CONTRAST)


def local_variance(images: torch.Tensor, box_size: int) -> torch.Tensor:
    """Variance of the pixels around each pixel, the mean over the channels.

    Args:
        images: Shape (B, C, H, W).
        box_size: Side in pixels of the window of :func:`~anomalib_ssl.scoring.box_filter.box_filter`, odd.

    Returns:
        Shape (B, 1, H, W).
    """
    # Around the centre of the value range, since squares of large numbers cancel badly.
    images = images - 0.5
    variance = box_filter(images.square(), box_size) - box_filter(images, box_size).square()
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


def _exponent(log_contrast: torch.Tensor, error: torch.Tensor) -> float:
    """Power of an image's contrast by which its mean error grows: the slope of a line through the logarithms.

    Within [0, 1]: an image of twice the contrast has at most twice the error.
    """
    deviation = log_contrast - log_contrast.mean()
    spread = float(deviation.square().sum())
    if spread <= 0:
        return 0.0
    slope = float((deviation * error.clamp(min=1e-24).log()).sum()) / spread
    return min(max(slope, 0.0), 1.0)
