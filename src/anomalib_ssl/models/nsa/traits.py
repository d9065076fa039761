# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What NSA needs to know of a product, found in clean images of it.

Schlüter et al., "Natural Synthetic Anomalies", ECCV 2022 (https://arxiv.org/abs/2109.15222) set these by hand for each
category of MVTec AD. All rules and limits here, by which they are found for any product, are this package's choice. Of
screws, pills, transistors and grids they find what the authors set: which have object masks, which are textures, which
lie alike, and about the same midpoint, except for screws, where it is 7 instead of 3. Thresholds are others: 38 grey
levels for screws instead of 60, 59 for pills instead of 20.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.pixels import to_unit
from anomalib_ssl.checks import check_images

SIDE = 64
"""Images are averaged down to this many rows and columns, so that traits do not depend on their resolution."""

MOST_IMAGES = 128
"""At most so many images are kept, evenly spread over the training set, and at least half as many of a large one."""

FRAME = SIDE // 16
"""Width of the border that a background is looked for in."""

MOST_OBJECT = 1 / 8
"""A background is plain if no larger share of the border differs from it."""

LEAST_OBJECT = 0.01
"""There is an object if a larger share of the rest differs, and twice the share that does in the border."""

THRESHOLD = 0.75
"""The threshold as a share of the middle: the middle itself makes holes in objects, half of it takes in shadows."""

LEAST_THRESHOLD = 0.02
"""Five grey levels: less is noise."""

DETAIL = SIDE // 8 + 1
"""What differs from the mean of a window of this side is detail; lighting and large shapes are not."""

MOST_SHARED_BY_TEXTURES = 0.35
"""Share of the detail in common; grids and magnetic tiles are at 0.15 and below, transistors at 0.6."""

LEAST_SHARED_IF_ALIGNED = 0.45
"""Likewise: transistors and pills are at 0.6 and above, hazelnuts and screws at 0.3 and below."""

MIDPOINTS = (3.0, 24.0)
"""The authors' smallest and largest midpoint, in grey levels of 0 to 255."""

MOST_IF_UNALIGNED = 7.0
"""Largest midpoint where images do not lie alike; the one that the authors have most often."""

SATURATION = 7 / 3
"""Steepness times midpoint, as in the authors' pairs (1/3, 7); in their others it is 2 to 3."""


SIDES = (0.12, 0.8)
"""Least and most of the largest side of a patch, as a share of the image's; the authors' for most categories is 0.8."""


@dataclass(frozen=True)
class Traits:
    """Settings of NSA for one product; that they are derived from images, and how, is this package's choice.

    Attributes:
        background: Grey level in [0, 1] of a plain background that objects lie before, or none.
        threshold: Difference from it, in [0, 1], from which on a pixel belongs to the object. It is of no use without a
            background.
        texture: Whether the images show a surface that has no places of its own.
        aligned: Whether the same parts lie at the same places in every image.
        steepness: Slope of soft labels per grey level of 0 to 255.
        midpoint: Change in grey levels of 0 to 255 that is labelled one half.
        height: Largest height of a patch, as a share of the image's.
        width: Largest width, likewise.
    """

    background: float | None
    threshold: float
    texture: bool
    aligned: bool
    steepness: float
    midpoint: float
    height: float = SIDES[1]
    width: float = SIDES[1]


def image_traits(batches: Iterable[torch.Tensor], aligned: bool | None = None) -> Traits:
    """Derive the settings of NSA from clean images; the derivation is this package's choice.

    - **Background**: the median grey level of a border around the images, where the border is plain and the rest is
      not. The threshold lies somewhat below the middle between object and background, above most shadows.
    - **Texture**: there is no background, and images have less than about a third of their detail in common.
    - **Aligned**: images have nearly half of their detail or more in common.
    - **Midpoint**: twice the median difference of two images, on the object if there is a background: what is less is
      as usual in good images. Where images do not lie alike, that is a difference of places, and the midpoint is the
      authors' 7 at most.
    - **Sides**: before a background patches are as high and wide as the object at most, or, where objects do not lie
      alike, as its narrow side; in the mean of images, of a rectangle whose pixels are spread alike.

    Args:
        batches: Clean images, shape (B, C, H, W) each, values in [0, 1], on any device. They are gone through once, of
            any number at most :data:`MOST_IMAGES` are kept, and nothing is random.
        aligned: Whether images lie alike, where that is known.

    Returns:
        The traits.

    Raises:
        TypeError: If a batch is no tensor of floating point numbers or bytes.
        ValueError: If a batch has another shape, values are not in [0, 1], or there are less than two images.

    Example:
        >>> import torch
        >>> images = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 0.05
        >>> images[..., 16:48, 24:40] += 0.8
        >>> traits = image_traits(images.split(4))
        >>> round(traits.background, 1), round(traits.threshold, 1), traits.texture, traits.aligned
        (0.0, 0.3, False, True)
    """
    images = _spread(batches)
    background, threshold, objects = _background(images.mean(dim=1))
    shared = _shared_detail(images)
    aligned = shared > LEAST_SHARED_IF_ALIGNED if aligned is None else aligned
    midpoint = _midpoint(images, objects, MIDPOINTS[1] if aligned else MOST_IF_UNALIGNED)
    height, width = SIDES[1:] * 2 if background is None else _sides(objects, aligned)
    return Traits(
        background=background,
        threshold=threshold,
        texture=background is None and shared < MOST_SHARED_BY_TEXTURES,
        aligned=aligned,
        steepness=SATURATION / midpoint,
        midpoint=midpoint,
        height=height,
        width=width,
    )


def _spread(batches: Iterable[torch.Tensor]) -> torch.Tensor:
    """Every n-th image, small and on the host, for the least n of 1, 2, 4, ... that leaves few enough."""
    kept: list[torch.Tensor] = []
    count, step = 0, 1
    for images in batches:
        check_images(images)
        chosen = to_unit(images[-count % step :: step]).cpu()
        kept.extend(F.adaptive_avg_pool2d(chosen, SIDE))
        count += len(images)
        while len(kept) > MOST_IMAGES:
            kept, step = kept[::2], 2 * step
    if count < 2:
        msg = f"batches must hold two images at least, to be compared, got {count}."
        raise ValueError(msg)
    result = torch.stack(kept)
    low, high = result.aminmax()
    # Interpolation may overshoot a little.
    if not (low > -0.1 and high < 1.1):
        msg = f"images must have values in [0, 1], got values from {float(low):g} to {float(high):g}."
        raise ValueError(msg)
    return result


def _background(grey: torch.Tensor) -> tuple[float | None, float, torch.Tensor]:
    """Background and threshold of grey images (B, H, W), and the object's pixels, or all without a background."""
    border = torch.ones(SIDE, SIDE, dtype=torch.bool)
    border[FRAME:-FRAME, FRAME:-FRAME] = False
    level = grey[:, border].median()
    difference = (grey - level).abs()
    threshold = max(THRESHOLD * _middle(difference), LEAST_THRESHOLD)
    objects = difference > threshold
    around, inside = (float(objects[:, places].float().mean()) for places in (border, ~border))
    if around < MOST_OBJECT and inside > max(2 * around, LEAST_OBJECT):
        return float(level.clamp(0, 1)), threshold, objects
    return None, threshold, torch.ones_like(objects)


def _middle(values: torch.Tensor) -> float:
    """Number midway between the means of the values below and above it (Ridler and Calvard, 1978)."""
    middle = values.mean()
    for _ in range(20):
        above = values > middle
        # All values may be the same.
        middle = (values[above].sum() / above.sum().clamp(min=1) + values[~above].mean()) / 2
    return float(middle)


def _shared_detail(images: torch.Tensor) -> float:
    """Share of the detail of images (B, C, H, W) that two of them have in common, on average: about 0 to 1."""
    around = F.avg_pool2d(images, DETAIL, stride=1, padding=DETAIL // 2, count_include_pad=False)
    detail = images - around
    count, power = len(images), detail.square().sum()
    # The sum over all pairs of different images is that over all pairs less that over images with themselves.
    common = (detail.sum(dim=0).square().sum() - power) / (count - 1)
    # The detail of constant images is rounding.
    return float(common / power.clamp(min=1e-6 * detail.numel()))


def _midpoint(images: torch.Tensor, objects: torch.Tensor, most: float) -> float:
    """Twice the median difference of two images (B, C, H, W) where one of them shows the object, within limits."""
    # Images that are next to each other may be of the same item.
    other = len(images) // 2
    difference = 255 * (images - images.roll(other, dims=0)).abs().mean(dim=1)
    return min(max(2 * float(difference[objects | objects.roll(other, dims=0)].median()), MIDPOINTS[0]), most)


def _sides(objects: torch.Tensor, aligned: bool) -> tuple[float, float]:
    """Height and width of objects (B, H, W), or their narrow side for both where they lie anyhow, within limits."""
    # Some images may show the background alone, but not all.
    objects = objects[objects.flatten(1).any(dim=1)]
    place = (torch.arange(SIDE) + 0.5) / SIDE
    share = objects / objects.sum(dim=(1, 2), keepdim=True)
    means = torch.stack([share.sum(dim=2) @ place, share.sum(dim=1) @ place], dim=1)
    squares = torch.stack([share.sum(dim=2) @ place**2, share.sum(dim=1) @ place**2], dim=1)
    variances, mixed = squares - means**2, torch.einsum("bhw,h,w->b", share, place, place) - means.prod(dim=1)
    if not aligned:
        # The smaller eigenvalue of each covariance.
        high, wide = variances.unbind(dim=1)
        narrow = (high + wide) / 2 - (((high - wide) / 2).square() + mixed**2).sqrt()
        variances = narrow.unsqueeze(1).expand(-1, 2)
    # A side of a rectangle is the square root of twelve times its variance.
    height, width = (12 * variances.clamp(min=0)).sqrt().mean(dim=0).clamp(*SIDES).tolist()
    return height, width
