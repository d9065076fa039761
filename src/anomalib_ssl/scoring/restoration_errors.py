# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How far restorations are from their images: what models that restore or reconstruct are scored by."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from kornia.color import rgb_to_lab
from torch import nn

from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.scoring.box_filter import box_filter, default_box_size
from anomalib_ssl.scoring.contrast_scale import ContrastScale

ERRORS: Mapping[str, int] = {"plain": 1, "scaled": 1, "gradient": 1, "colour": 1, "both": 2, "all": 3}
"""Kinds of errors, and how many channels each has."""

JOINED: Mapping[str, tuple[str, ...]] = {"both": ("scaled", "gradient"), "all": ("scaled", "gradient", "colour")}
"""Kinds that are several others, channel by channel."""

LEAST_COLOUR = 1.0
"""Mean square of the colour axes of L*a*b* up to which images count as grey."""


class RestorationErrors(nn.Module):
    """Compare images with their restorations in six ways.

    * ``plain``: squared error, mean over channels, smoothed;
    * ``scaled``: the same divided by what is normal at this contrast, see :class:`~anomalib_ssl.scoring.ContrastScale`;
    * ``gradient``: multi-scale gradient magnitude dissimilarity, smoothed;
    * ``colour``: squared error of the two colour axes of CIE L*a*b*, smoothed: beside gradients as in FAIR (Liu et al.,
      2023, https://arxiv.org/abs/2309.07068), for stains that are as bright as what they lie on; 0 if the training
      images are grey, where it would be noise of the network;
    * ``both``: ``scaled`` and ``gradient``;
    * ``all``: ``scaled``, ``gradient`` and ``colour``.

    All but the gradients' similarity itself and the colours beside it is this package's choice.

    Args:
        size: Height and width in pixels of the images, multiples of 8.

    Attributes:
        box_size: Side in pixels of the averaging window: 11 at 256 pixels, 21 at 512.
        scale: What is normal at a contrast; ``scaled``, ``both`` and ``all`` need it to be fitted.
        coloured: 1 if the training images have colours, else 0, a buffer.

    Example:
        >>> import torch
        >>> errors, images = RestorationErrors((32, 32)), torch.rand(2, 3, 32, 32)
        >>> errors.fit([(images, 0.9 * images)])
        >>> {name: tuple(error.shape) for name, error in errors(images, images, frozenset({"both"})).items()}
        {'plain': (2, 1, 32, 32), 'scaled': (2, 1, 32, 32), 'gradient': (2, 1, 32, 32), 'both': (2, 2, 32, 32)}
    """

    coloured: torch.Tensor

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("coloured", torch.ones(()))
        self.box_size = default_box_size(size)
        # Where errors are not smoothed, a variance still needs neighbours.
        self.scale = ContrastScale(max(self.box_size, 3))

    def forward(
        self, images: torch.Tensor, restored: torch.Tensor, names: frozenset[str] = frozenset(ERRORS)
    ) -> dict[str, torch.Tensor]:
        """Compare images (B, 3, H, W) with restorations of the same shape.

        Args:
            images: Values in [0, 1].
            restored: Their restorations.
            names: The kinds that are wanted; ``plain``, and what others are made of, are given in any case.

        Returns:
            Errors (B, K, H, W) by name.

        Raises:
            NotFittedError: If ``scaled`` errors are wanted and :meth:`fit` has not run.
        """
        errors = {"plain": self.plain(images, restored)}
        wanted = names.union(*(JOINED[name] for name in names & JOINED.keys()))
        if "scaled" in wanted:
            errors["scaled"] = self.scale(errors["plain"], images)
        if "gradient" in wanted:
            distance = gradient_distance_map(gradient_pyramid(images), gradient_pyramid(restored))
            errors["gradient"] = box_filter(distance, self.box_size)
        if "colour" in wanted:
            distance = squared_error(_colour(images), _colour(restored))
            errors["colour"] = self.coloured * box_filter(distance, self.box_size)
        for name, parts in JOINED.items():
            if name in names:
                errors[name] = torch.cat([errors[part] for part in parts], dim=1)
        return errors

    def plain(self, images: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
        """Smoothed squared error of restorations (B, 3, H, W), shape (B, 1, H, W); it needs no statistics."""
        return box_filter(squared_error(images, restored), self.box_size)

    @torch.no_grad()
    def fit(self, pairs: Iterable[tuple[torch.Tensor, torch.Tensor]]) -> None:
        """Learn from normal images (B, 3, H, W) and their restorations what is normal, in one pass.

        Raises:
            ValueError: If there are no images, or restorations are not finite.
        """
        colours: list[torch.Tensor] = []

        def measured() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            for images, restored in pairs:
                colours.append(_colour(images).square().mean(dim=(1, 2, 3)))
                yield self.plain(images, restored), images

        self.scale.fit(measured())
        self.coloured.copy_(torch.cat(colours).mean() > LEAST_COLOUR)


def squared_error(images: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """Squared difference of two batches of images (B, C, H, W), the mean over the channels, shape (B, 1, H, W)."""
    return (images - restored).square().mean(dim=1, keepdim=True)


def _colour(images: torch.Tensor) -> torch.Tensor:
    """The colour axes a* and b* of images (B, 3, H, W): shape (B, 2, H, W)."""
    return rgb_to_lab(images.clamp(min=0))[:, 1:]
