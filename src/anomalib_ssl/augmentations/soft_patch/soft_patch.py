# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutDiff, CutOut and CutPaste with a soft patch, differentiable in its area, aspect and angle."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.color_jitter import color_jitter, sample_color_jitter
from anomalib_ssl.augmentations.pixels import from_unit, is_channels_last, to_unit
from anomalib_ssl.augmentations.random_shift import shift_images
from anomalib_ssl.augmentations.sampling import uniform
from anomalib_ssl.augmentations.soft_patch.mask import GEOMETRY, soft_patch_mask
from anomalib_ssl.checks import check_choice, check_number

KINDS = ("cutdiff", "cutout", "cutpaste")
"""Names of what a soft patch does to an image."""


@dataclass(frozen=True)
class SoftPatch(Augmentation):
    """A patch with a soft edge at a random place, differentiable in its area, aspect and angle.

    ``cutdiff`` subtracts a Gaussian mask from the image, a soft black blob; ``cutout`` puts a grey value, ``cutpaste``
    another, colour-jittered part of the image under a box with a soft edge. The first is what the class SmoothCutOut in
    the public code of DSV does (Yoo et al., https://arxiv.org/abs/2307.06534), whose command line calls it CutDiff; the
    reviews of ST-SSAD (Yoo, Zhao and Akoglu, https://arxiv.org/abs/2306.12033) name CutDiff as its local augmentation.
    The other two, the angle, and a place for each image rather than one for the whole batch are this package's choices.

    The parameters that :meth:`sample` gives can be replaced by tensors of shape (B,) that need gradients.

    Args:
        kind: ``cutdiff``, ``cutout`` or ``cutpaste``.
        area: Product of the patch's sides as a share of the image's area, in (0, 1].
        aspect: The patch's width / height.
        angle: Angle in degrees by which it is turned counter-clockwise.
        value: Grey value that ``cutout`` puts in, in [0, 1].
        jitter: Strength of the colour jitter of what ``cutpaste`` puts in, in [0, 0.5].

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> patch = SoftPatch("cutdiff")
        >>> parameters = patch.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> area = torch.tensor(0.1, requires_grad=True)
        >>> darkened, masks = patch.apply(images, {**parameters, "area": area.expand(4)})
        >>> darkened.mean().backward()
        >>> bool(area.grad < 0)  # a larger patch makes the images darker
        True
    """

    kind: Literal["cutdiff", "cutout", "cutpaste"] = "cutdiff"
    area: float = 0.05
    aspect: float = 1.0
    angle: float = 0.0
    value: float = 0.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_choice("kind", self.kind, KINDS)
        check_number("area", self.area, 1e-6, 1)
        check_number("aspect", self.aspect, 1e-3, 1e3)
        check_number("angle", self.angle)
        check_number("value", self.value, 0, 1)
        check_number("jitter", self.jitter, 0, 0.5)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw the centres, uniformly over the image, and give the rest.

        Returns:
            Shape (B,) each: ``area``, ``aspect``, ``angle``, ``center_y`` and ``center_x`` of
            :func:`~anomalib_ssl.augmentations.soft_patch_mask`. For ``cutout`` also ``value``. For ``cutpaste`` also
            ``shift_y`` and ``shift_x``, by how many rows and columns what is put in lies below and to the right of
            where it goes, and the strengths of its colour jitter.
        """
        batch, (height, width) = shape[0], shape[-2:]
        center_y, center_x, from_y, from_x = uniform(0, 1, (4, batch), device, generator)
        fixed = {"area": self.area, "aspect": self.aspect, "angle": math.radians(self.angle)}
        parameters = {name: torch.full_like(center_y, value) for name, value in fixed.items()}
        parameters |= {"center_y": center_y, "center_x": center_x}
        if self.kind == "cutout":
            parameters["value"] = torch.full_like(center_y, self.value)
        if self.kind == "cutpaste":
            # Both centres are inside the image, so that a shift is smaller than it.
            parameters["shift_y"] = ((from_y - center_y) * (height - 1)).round().long()
            parameters["shift_x"] = ((from_x - center_x) * (width - 1)).round().long()
            parameters |= sample_color_jitter(batch, (self.jitter,) * 4, device, generator)
        return parameters

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Change ``images`` (B, C, H, W); the boolean masks are where the soft mask exceeds one half."""
        pixels = to_unit(images)
        mask = self._soft_mask(pixels, parameters)
        if self.kind == "cutdiff":
            changed = (pixels - mask).clamp(0, 1)
        elif self.kind == "cutout":
            changed = torch.lerp(pixels, parameters["value"].to(pixels).view(-1, 1, 1, 1), mask)
        else:
            with torch.no_grad():
                source = color_jitter(shift_images(pixels, parameters), parameters)
            changed = torch.lerp(pixels, source, mask)
        layout = torch.channels_last if is_channels_last(images) else torch.contiguous_format
        return from_unit(changed, images.dtype).contiguous(memory_format=layout), mask > 0.5

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Add the patches to anomaly masks (B, C, H, W)."""
        return masks.maximum((self._soft_mask(masks.float(), parameters) > 0.5).to(masks.dtype))

    def _soft_mask(self, pixels: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        geometry = {name: parameters[name].to(pixels) for name in GEOMETRY}
        size = (pixels.shape[-2], pixels.shape[-1])
        return soft_patch_mask(geometry, size, "gaussian" if self.kind == "cutdiff" else "box")
