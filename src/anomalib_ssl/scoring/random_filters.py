# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Features that need no training: random filters of several scales."""

import math

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.scoring.map_part import AND
from anomalib_ssl.scoring.maps import SMOOTHING
from anomalib_ssl.scoring.places import Places, join

WIDTHS = (32, 48, 64, 96)
"""Numbers of filters, layer by layer; further layers have as many as the last."""

PLACES = 16
"""Least number of places along the shorter side, of 64 pixels or more; there are less than twice as many."""

SCALES = 3
"""The last so many layers give the features."""

SIDE = 3
"""Height and width of a filter."""

FILTERS, FINE = "filters", "fine_filters"
"""Names of what the filters see: at so many places, and at twice as many rows and columns of them."""

DIMENSIONS = {FILTERS: 100, FINE: 60}
"""Principal directions that are kept: 100 as PaDiM keeps channels."""

BESIDE = {False: 15, True: 60}
"""Principal directions of a network's features that are kept beside those, by whether it began with pretrained weights:
of 15, 30 and 60 the best in the mean."""

GAIN = 4.0
"""What images are multiplied by: their standard deviation is about a quarter."""

SEED = 0
"""Seed of the filters: the same in every model."""


class RandomFilters(nn.Module):
    """Features of images by layers of random filters, absolute values and halvings with a blur.

    Each layer looks for random small patterns in what the layer before has found, disregards their sign, and gives a
    blurred map of half the size. Filters of images add up to zero, so that of grey ones they see changes alone. The
    features tell what texture and which edges there are at a place, at three scales, as those of a scattering transform
    do (Bruna and Mallat, 2013, https://arxiv.org/abs/1203.1513), and unlike what a network has learned they favour
    nothing. One layer less gives finer features, which tell images worse and place defects better. What both are
    worth, alone and beside a trained network, is measured in docs/results/random_filters.md. All of it is this
    package's choice.

    The filters are buffers: they travel with the state dict, and into exported graphs.

    Args:
        size: Height and width in pixels of the images; the smaller decides how many layers there are.

    Example:
        >>> import torch
        >>> filters = RandomFilters((128, 192))
        >>> {name: features.shape[1:] for name, features in filters(torch.rand(2, 3, 128, 192)).items()}
        {'filters': torch.Size([208, 16, 24]), 'fine_filters': torch.Size([144, 32, 48])}
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size
        halvings = max(int(math.log2(max(min(size) / PLACES, 1))), 2)
        widths = [*WIDTHS, *[WIDTHS[-1]] * halvings][: halvings + 1]
        generator = torch.Generator().manual_seed(SEED)
        self.count = len(widths)
        for layer, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False)):
            # Uniform: these random numbers are the same to the last bit on any processor.
            filters = torch.rand(outputs, inputs, SIDE, SIDE, generator=generator, dtype=torch.float32)
            filters -= filters.mean(dim=(1, 2, 3), keepdim=True) if layer == 0 else 0.5
            # The variance of He et al.'s initialisation; a uniform number in [0, 1) has one of a twelfth.
            filters *= math.sqrt(12 * 2 / (inputs * SIDE**2))
            self.register_buffer(f"filters_{layer}", filters.contiguous(memory_format=torch.channels_last))

    @torch.no_grad()
    def places(self, source: str, beside: int = 0, pre_trained: bool = False) -> Places:
        """Make what compares these features with normal ones at the same place.

        Args:
            source: Which of the two, or the name of further features after it and a ``+``.
            beside: Number of channels of these, if any.
            pre_trained: Whether these are of a network that began with pretrained weights.
        """
        name = source.split(AND, maxsplit=1)[0]
        _, channels, height, width = self(torch.zeros(1, 3, *self.size))[name].shape
        kept = DIMENSIONS[name]
        kinds = ((channels, beside), (kept, BESIDE[pre_trained])) if beside else ((channels,), (kept,))
        places = Places(source, (kinds[0], height, width), contrast=False, dimensions=kinds[1])
        places.sigma = SMOOTHING * min(self.size)
        return places

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compute features (B, C, h, w) and finer ones (B, C, 2h, 2w) of images (B, 3, H, W) in [0, 1]."""
        # The faster layout for convolutions.
        features = GAIN * images.contiguous(memory_format=torch.channels_last)
        scales = [features]
        for layer in range(self.count):
            filters: torch.Tensor = getattr(self, f"filters_{layer}")
            features = F.conv2d(features, filters, padding=SIDE // 2).abs_()
            features = F.avg_pool2d(features, 4, stride=2, padding=1)
            scales.append(features)
        return {FILTERS: join(scales[-SCALES:]), FINE: join(scales[-SCALES - 1 : -1])}
