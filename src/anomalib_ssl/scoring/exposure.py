# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Bringing images to one brightness before they are compared: a lamp that has aged is no defect."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

LEAST_BRIGHTNESS = 1 / 255
"""Images are not taken for darker than a grey level: what is black stays black."""


class Exposure(nn.Module):
    """Multiply each image by what brings its mean to that of the training images; this package's choice.

    Test images that were taken in another light differ from the training images everywhere, and more than by a small
    defect. Where they are the sound ones, scores are upside down: so they are in two categories of those that this was
    measured on (docs/results/scoring.md). The gain is one number for all channels, so colours keep their ratios. Values
    above 1 are kept.

    Attributes:
        reference: Mean brightness of the training images, a buffer; 0 for images as they are, also before :meth:`fit`.

    Example:
        >>> import torch
        >>> exposure = Exposure()
        >>> exposure.fit([torch.full((2, 3, 4, 4), 0.4)])
        >>> round(float(exposure(torch.full((1, 3, 4, 4), 0.1)).max()), 4)
        0.4
    """

    reference: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("reference", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Equalise images (B, C, H, W) with values in [0, 1]."""
        return images * self.gain(images)

    def gain(self, images: torch.Tensor) -> torch.Tensor:
        """What each of the images (B, C, H, W) is multiplied by, shape (B, 1, 1, 1)."""
        brightness = images.mean(dim=(1, 2, 3), keepdim=True).clamp(min=LEAST_BRIGHTNESS)
        return torch.where(self.reference > 0, self.reference / brightness, 1.0)

    @torch.no_grad()
    def fit(self, images: Iterable[torch.Tensor]) -> None:
        """Take the mean over training images (B, C, H, W); of none, images stay as they are."""
        total, count = torch.zeros_like(self.reference), 0
        for batch in images:
            total += batch.mean(dim=(1, 2, 3)).sum()
            count += len(batch)
        self.reference.copy_(total / max(count, 1))

    def of(self, images: Iterable[torch.Tensor]) -> Iterable[torch.Tensor]:
        """The batches equalised, which can be gone through as often as they can."""
        return _Equalised(self, images)


@dataclass(frozen=True)
class _Equalised:
    exposure: Exposure
    images: Iterable[torch.Tensor]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(self.exposure, self.images)
