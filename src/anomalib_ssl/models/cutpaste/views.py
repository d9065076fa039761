# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The pretext task: which kind of paste, if any, was applied to an image."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from anomalib_ssl.augmentations import (
    BlendedPatch,
    ColorJitter,
    CutPaste,
    CutPasteScar,
    Paste,
    RandomCrop,
    RandomShift,
    color_jitter,
    crop_images,
    shift_images,
)
from anomalib_ssl.checks import check_choice

VARIANTS = {
    "normal": ("normal", "patch"),
    "scar": ("normal", "scar"),
    "union": ("normal", "patch or scar"),
    "3way": ("normal", "patch", "scar"),
    "blended": ("normal", "blended"),
    "4way": ("normal", "patch", "scar", "blended"),
}
"""Names of an image's views by that of the pretext task."""


@dataclass(frozen=True)
class CutPasteViews:
    """Make the labelled views of a batch of normal images (Li et al., CVPR 2021, sections 2.1 and 2.2).

    Each image is first shifted, or for the patch model cropped (equation 3), and jittered; all its views start from
    this same base image, so that the paste is their only difference. The views are stacked along the batch and go
    through the network together: batch statistics of separate passes would give the label away.

    Args:
        variant: ``normal`` (image, CutPaste), ``scar`` (image, CutPaste-Scar), ``union`` (image, either paste with
            equal chance) or ``3way`` (image, CutPaste, CutPaste-Scar). Beyond the paper: ``blended`` (image, a patch of
            another image blended in) and ``4way`` (all four).
        patch: The large-patch augmentation.
        scar: The scar augmentation.
        shift: Translation of the base image.
        jitter: Colour jitter of the base image.
        crop: Crop of the base image, made in place of the shift. Scars keep the size that they would have in the whole
            image; patches, whose size is a share of the area, shrink with it.
        blended: The blended patches.

    Raises:
        ValueError: If the variant is unknown.
    """

    variant: Literal["normal", "scar", "union", "3way", "blended", "4way"]
    patch: CutPaste
    scar: CutPasteScar
    shift: RandomShift
    jitter: ColorJitter
    crop: RandomCrop | None = None
    blended: BlendedPatch = field(default_factory=BlendedPatch)

    def __post_init__(self) -> None:
        """Check the variant."""
        check_choice("variant", self.variant, VARIANTS)

    @property
    def num_classes(self) -> int:
        """Number of views of an image, and of labels."""
        return len(VARIANTS[self.variant])

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
            Views (V * B, C, H, W), or of the crop's size, first all base images, then all of each kind of paste; and
            labels (V * B,), where 0 is the base image. The views keep the images' data type and memory format.

        Raises:
            ValueError: If ``out`` does not fit the views.
        """
        scar = self._scaled_scar(images.shape)
        images = self._base(images, generator)
        _check_out(out, images, self.num_classes)
        views = torch.cat([images] * self.num_classes, out=out)
        for view, kind in zip(views.split(len(images))[1:], VARIANTS[self.variant][1:], strict=True):
            if kind == "blended":
                view.copy_(self.blended(images, generator)[0])
                continue
            for paste in self._pastes(kind, images, scar, generator):
                paste.write_(view)
        labels = torch.arange(self.num_classes, device=images.device).repeat_interleave(len(images))
        return views, labels

    def _base(self, images: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
        if self.crop is None:
            images = shift_images(images, self.shift.sample(images.shape, images.device, generator))
        else:
            images = crop_images(images, self.crop.sample(images.shape, images.device, generator))
        return color_jitter(images, self.jitter.sample(images.shape, images.device, generator))

    def _scaled_scar(self, shape: torch.Size) -> CutPasteScar:
        """The scar for crops of images of a shape."""
        if self.crop is None or self.scar.reference_size is None:
            return self.scar
        return replace(self.scar, reference_size=self.scar.reference_size * self.crop.size / min(shape[-2:]))

    def _pastes(
        self, kind: str, images: torch.Tensor, scar: CutPasteScar, generator: torch.Generator | None
    ) -> list[Paste]:
        """Pastes to be written into a view."""
        used = [one for name, one in (("patch", self.patch), ("scar", scar)) if name in kind]
        pastes = [one.paste(images, one.sample(images.shape, images.device, generator)) for one in used]
        if len(pastes) == 1:
            return pastes
        chosen = torch.rand(len(images), device=images.device, generator=generator) < 0.5
        return [pastes[0].only(chosen), pastes[1].only(~chosen)]


def _check_out(out: torch.Tensor | None, images: torch.Tensor, num_classes: int) -> None:
    shape = (num_classes * len(images), *images.shape[1:])
    if out is not None and (out.shape != shape or out.dtype != images.dtype or out.device != images.device):
        msg = (
            f"out must be a tensor of shape {shape}, {images.dtype} on {images.device}, "
            f"got {tuple(out.shape)}, {out.dtype} on {out.device}."
        )
        raise ValueError(msg)
