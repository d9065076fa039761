# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The pretext task: which kind of paste, if any, was applied to an image."""

from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations import ColorJitter, CutPaste, CutPasteScar, RandomShift
from anomalib_ssl.checks import check_choice

VARIANTS = ("normal", "scar", "union", "3way")
"""Names of the pretext tasks."""


@dataclass(frozen=True)
class CutPasteViews:
    """Make the labelled views of a batch of normal images (Li et al., CVPR 2021, sections 2.1 and 2.2).

    Each image is first shifted and jittered; all its views start from this same base image, so that the paste is their
    only difference. The views are stacked along the batch and go through the network together: batch statistics of
    separate passes would give the label away.

    Args:
        variant: ``normal`` (image, CutPaste), ``scar`` (image, CutPaste-Scar), ``union`` (image, either paste with
            equal chance) or ``3way`` (image, CutPaste, CutPaste-Scar).
        patch: The large-patch augmentation.
        scar: The scar augmentation.
        shift: Translation of the base image.
        jitter: Colour jitter of the base image.

    Raises:
        ValueError: If the variant is unknown.
    """

    variant: Literal["normal", "scar", "union", "3way"]
    patch: CutPaste
    scar: CutPasteScar
    shift: RandomShift
    jitter: ColorJitter

    def __post_init__(self) -> None:
        """Check the variant."""
        check_choice("variant", self.variant, VARIANTS)

    @property
    def num_classes(self) -> int:
        """Number of views of an image, and of labels."""
        return 3 if self.variant == "3way" else 2

    def __call__(
        self, images: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make views and labels.

        Args:
            images: Normal images (B, C, H, W) in [0, 1].
            generator: Source of randomness on the images' device.

        Returns:
            Views (V * B, C, H, W), first all base images, then all of each kind of paste; and labels (V * B,), where 0
            is the base image.
        """
        images, _ = self.shift(images, generator)
        images, _ = self.jitter(images, generator)
        views = torch.cat([images, *self._pasted(images, generator)])
        labels = torch.arange(self.num_classes, device=images.device).repeat_interleave(len(images))
        return views, labels

    def _pasted(self, images: torch.Tensor, generator: torch.Generator | None) -> list[torch.Tensor]:
        if self.variant == "normal":
            return [self.patch(images, generator)[0]]
        if self.variant == "scar":
            return [self.scar(images, generator)[0]]
        patched, scarred = self.patch(images, generator)[0], self.scar(images, generator)[0]
        if self.variant == "3way":
            return [patched, scarred]
        choice = torch.rand(len(images), 1, 1, 1, device=images.device, generator=generator) < 0.5
        return [torch.where(choice, patched, scarred)]
