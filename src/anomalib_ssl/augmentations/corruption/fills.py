# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What corrupted regions are filled with.

A fill draws parameters for all samples and computes pixels for those that use it. Which these are is known to the host,
so that nothing else is computed and nothing waits for the device.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.base import Parameters
from anomalib_ssl.augmentations.bilinear import sample_bilinear
from anomalib_ssl.augmentations.color_jitter import OPERATIONS, color_jitter, sample_color_jitter
from anomalib_ssl.augmentations.corruption.fields import (
    SMOOTHING,
    displaced_coordinates,
    sample_displacement,
    sample_knots,
    smooth_field,
)
from anomalib_ssl.augmentations.corruption.textures import TEXTURE_SIZE, load_textures
from anomalib_ssl.augmentations.pixels import to_unit
from anomalib_ssl.augmentations.random_shift import shift_images
from anomalib_ssl.augmentations.sampling import Device, Shape, integers, uniform

FILLS = ("texture", "image", "deform", "flat", "noise")
"""Index of each fill in the parameters."""

_GRAIN = 64
"""Side in pixels of the tile of noise that roughens flat colours."""


class Fill(ABC):
    """A source of pixels for corrupted regions."""

    @abstractmethod
    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw parameters for images of shape (B, C, H, W), one row per sample."""

    @abstractmethod
    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Compute the fills of some samples.

        Args:
            images: The whole batch (B, C, H, W), floats in [0, 1] or uint8.
            rows: Indices (R,) of the samples to be filled.
            parameters: What :meth:`sample` returned, the whole batch's.

        Returns:
            Pixels (R, C, H, W), floats in [0, 1].
        """


@dataclass(frozen=True)
class TextureFill(Fill):
    """Random crops of external textures, from half the largest that is sharp to the whole, with colour jitter of 0.2.

    Args:
        folder: Folder of images.
    """

    folder: str

    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw which texture and which part of it."""
        batch, (height, width) = shape[0], shape[-2:]
        place = uniform(0, 1, (3, batch), device, generator)
        textures = load_textures(self.folder, place.device)
        # A crop of more than twice the pixels of the image's side would be aliased.
        longer = max(height, width)
        largest = min(TEXTURE_SIZE, 2 * longer) / TEXTURE_SIZE
        crop = (place[0] + 1) / 2 * largest
        crop_height, crop_width = crop * (height / longer), crop * (width / longer)
        return {
            "texture": integers(0, len(textures) - 1, batch, device, generator),
            "crop_height": crop_height,
            "crop_width": crop_width,
            "crop_y": (place[1] * 2 - 1) * (1 - crop_height),
            "crop_x": (place[2] * 2 - 1) * (1 - crop_width),
            **sample_color_jitter(batch, (0.2,) * 4, device, generator),
        }

    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Crop and resize textures; of images that are not RGB, their brightness."""
        names = ("crop_width", "crop_x", "crop_height", "crop_y")
        crop_width, x, crop_height, y = (parameters[name][rows] for name in names)
        zero = torch.zeros_like(x)
        matrix = torch.stack([crop_width, zero, x, zero, crop_height, y], dim=1).view(-1, 2, 3)
        # In full precision, since these are coordinates.
        with torch.autocast(images.device.type, enabled=False):
            grid = F.affine_grid(matrix, [len(rows), 1, *images.shape[-2:]], align_corners=False)
        textures = to_unit(load_textures(self.folder, images.device)[parameters["texture"][rows]])
        crops = sample_bilinear(textures, grid.to(textures.dtype), "border")
        jitter = {name: parameters[name][rows] for name in OPERATIONS if name in parameters}
        crops = color_jitter(crops, {**jitter, "order": parameters["order"]})
        return crops if images.shape[1] == 3 else crops.mean(dim=1, keepdim=True).expand(-1, images.shape[1], -1, -1)


@dataclass(frozen=True)
class ImageFill(Fill):
    """Another place of the same image or, with equal chance, of another image of the batch.

    The image is moved along either axis by a tenth to half of the side, by whole pixels, and mirrored at its borders:
    every pixel keeps its exact value.
    """

    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw ``source``, how many images further in the batch to look, and the move in pixels."""
        batch = shape[0]
        own, down, right = uniform(0, 1, (3, batch), device, generator)
        other = integers(min(1, batch - 1), max(batch - 1, 0), batch, device, generator)
        return {
            "source": torch.where(own < 0.5, torch.zeros_like(other), other),
            "shift_y": self._shift(down, shape[-2]),
            "shift_x": self._shift(right, shape[-1]),
        }

    def _shift(self, draw: torch.Tensor, side: int) -> torch.Tensor:
        """Turn draws from [0, 1) into moves in either direction."""
        low, high = 0.1 * side, 0.5 * side
        distance = ((draw * 2 - 1).abs() * (high - low) + low).ceil().long()
        return torch.where(draw < 0.5, -distance, distance)

    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Move images of the batch."""
        sources = images[(rows + parameters["source"][rows]) % len(images)]
        return to_unit(shift_images(sources, {name: parameters[name][rows] for name in ("shift_y", "shift_x")}))


@dataclass(frozen=True)
class DeformFill(Fill):
    """The image's own content, elastically deformed.

    Args:
        displacement: Smallest and largest displacement, as a share of the shorter side, that 95 % of the pixels keep
            along either axis.
    """

    displacement: tuple[float, float]

    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw the field of displacements."""
        field = sample_displacement(shape, self.displacement, device, generator)
        return {f"deform_{name}": value for name, value in field.items()}

    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Read images at displaced places."""
        height, width = images.shape[-2:]
        field = {name: parameters[f"deform_{name}"][rows] for name in ("knots", "sigma", "amplitude")}
        y, x = displaced_coordinates(field, height, width)
        grid = torch.stack([x * (2 / width) - 1, y * (2 / height) - 1], dim=-1)
        own = to_unit(images[rows]).contiguous()
        return sample_bilinear(own, grid.to(own.dtype), "reflection")


@dataclass(frozen=True)
class FlatFill(Fill):
    """One colour, slightly rough: with noise of a standard deviation up to 0.04."""

    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw a tile of noise; the colour is drawn in any case."""
        size = (shape[0], 1, *(min(side, _GRAIN) for side in shape[-2:]))
        return {
            "grain": torch.randn(size, device=device, generator=generator),
            "grain_strength": uniform(0, 0.04, shape[0], device, generator),
        }

    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Add the noise to the colour."""
        height, width = images.shape[-2:]
        grain = parameters["grain"][rows] * parameters["grain_strength"][rows].view(-1, 1, 1, 1)
        times = (1, 1, math.ceil(height / grain.shape[2]), math.ceil(width / grain.shape[3]))
        color = parameters["color"][rows].unsqueeze(2).unsqueeze(3)
        return (color + grain.repeat(times)[..., :height, :width]).clamp_(0, 1)


@dataclass(frozen=True)
class NoiseFill(Fill):
    """Smooth noise of a random mean colour: clouds of a standard deviation from 0.1 to 0.3."""

    def sample(self, shape: Shape, device: Device, generator: torch.Generator | None) -> Parameters:
        """Draw the noise; its mean colour is drawn in any case."""
        side = min(shape[-2:])
        return {
            "noise_knots": sample_knots(shape, 1 + shape[1], SMOOTHING[0] * side, device, generator),
            "noise_sigma": uniform(*SMOOTHING, shape[0], device, generator) * side,
            "noise_contrast": uniform(0.1, 0.3, shape[0], device, generator),
        }

    def make(self, images: torch.Tensor, rows: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Smooth the noise and colour it."""
        knots = parameters["noise_knots"][rows]
        # The channels have 60 % of their variance in common. Mixed before smoothing: fewer numbers, same result.
        knots = knots[:, :1] * math.sqrt(0.6) + knots[:, 1:] * math.sqrt(0.4)
        clouds = smooth_field(knots, parameters["noise_sigma"][rows], *images.shape[-2:])
        color, contrast = parameters["color"][rows], parameters["noise_contrast"][rows].view(-1, 1, 1, 1)
        return (color.unsqueeze(2).unsqueeze(3) + contrast * clouds).clamp_(0, 1)
