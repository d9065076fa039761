# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The pretext task: which kind of paste, if any, was applied to an image."""

from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations import (
    ColorJitter,
    CutPaste,
    CutPasteScar,
    Paste,
    PasteAugmentation,
    RandomShift,
    color_jitter,
    shift_images,
)
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
        self,
        images: torch.Tensor,
        generator: torch.Generator | None = None,
        out: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Make views and labels.

        Args:
            images: Normal images (B, C, H, W), floats in [0, 1] or uint8.
            generator: Source of randomness on the images' device.
            out: Where to put the views, for example those of an earlier call that are needed no longer: on a CPU, fresh
                memory for a large batch costs more than the pastes themselves.

        Returns:
            Views (V * B, C, H, W), first all base images, then all of each kind of paste; and labels (V * B,), where 0
            is the base image. The views keep the images' data type and memory format.

        Raises:
            ValueError: If ``out`` does not fit the views.
        """
        shape = (self.num_classes * len(images), *images.shape[1:])
        if out is not None and (out.shape != shape or out.dtype != images.dtype or out.device != images.device):
            msg = (
                f"out must be a tensor of shape {shape}, {images.dtype} on {images.device}, "
                f"got {tuple(out.shape)}, {out.dtype} on {out.device}."
            )
            raise ValueError(msg)
        images = shift_images(images, self.shift.sample(images.shape, images.device, generator))
        images = color_jitter(images, self.jitter.sample(images.shape, images.device, generator))
        views = torch.cat([images] * self.num_classes, out=out)
        for view, pastes in zip(views.split(len(images))[1:], self._pastes(images, generator), strict=True):
            for paste in pastes:
                paste.write_(view)
        labels = torch.arange(self.num_classes, device=images.device).repeat_interleave(len(images))
        return views, labels

    def _pastes(self, images: torch.Tensor, generator: torch.Generator | None) -> list[list[Paste]]:
        """Pastes to be written into each view but the first."""
        kinds: dict[str, PasteAugmentation] = {"normal": self.patch, "scar": self.scar}
        used = [kinds[self.variant]] if self.variant in kinds else list(kinds.values())
        pastes = [kind.paste(images, kind.sample(images.shape, images.device, generator)) for kind in used]
        if self.variant != "union":
            return [[paste] for paste in pastes]
        chosen = torch.rand(len(images), device=images.device, generator=generator) < 0.5
        return [[pastes[0].only(chosen), pastes[1].only(~chosen)]]
