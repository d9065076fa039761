# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Colour jitter with one strength per sample, optionally restricted to a mask."""

from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.random import uniform
from anomalib_ssl.checks import check_number

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
"""Index of each operation in the drawn order."""

_LUMA = (0.2989, 0.587, 0.114)


def sample_color_jitter(
    batch_size: int,
    strengths: tuple[float, float, float, float],
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Parameters:
    """Draw the strengths of a colour jitter and the order of its operations.

    The order is shared by the batch, as in Kornia, and lives on the host: were it a value on an accelerator, using it
    would make the host wait. It comes from ``generator`` where that lives on the CPU, else from torch's CPU generator.

    Args:
        batch_size: Number of samples.
        strengths: Of brightness, contrast, saturation and hue. Factors of the first three are drawn from
            [1 - strength, 1 + strength], shifts of hue from [-strength, strength] turns of the colour circle. 0 leaves
            an operation out.
        device: Device of the strengths.
        generator: Source of randomness.

    Returns:
        For each operation in use its strengths (B,), and ``order`` (1, 4); nothing where all strengths are 0.
    """
    parameters = {
        name: uniform(-strength, strength, batch_size, device, generator) + (0.0 if name == "hue" else 1.0)
        for name, strength in zip(OPERATIONS, strengths, strict=True)
        if strength > 0
    }
    if parameters:
        host_generator = generator if generator is not None and generator.device.type == "cpu" else None
        parameters["order"] = torch.randperm(len(OPERATIONS), generator=host_generator, device="cpu").unsqueeze(0)
    return parameters


def color_jitter(images: torch.Tensor, parameters: Parameters, mask: torch.Tensor | None = None) -> torch.Tensor:
    """Apply brightness, contrast, saturation and hue changes in the drawn order.

    Equal to ``torchvision.transforms.v2.ColorJitter`` applied sample by sample with the same strengths and order; with
    a mask, to that transform applied to the masked region alone. Values are clamped to [0, 1] after every operation.

    Args:
        images: Shape (B, C, H, W), values in [0, 1]. Saturation and hue apply to three channels only.
        parameters: What :func:`sample_color_jitter` returned.
        mask: Boolean, shape (B, 1, H, W): the pixels whose mean brightness the contrast refers to. What the other
            pixels become is unspecified. Defaults to all pixels.

    Returns:
        The jittered images (B, C, H, W).
    """
    if "order" not in parameters:
        return images
    # On the host by design, see sample_color_jitter.
    for index in parameters["order"].flatten().tolist():
        name = OPERATIONS[index]
        if name not in parameters:
            continue
        strength = parameters[name].to(images).view(-1, 1, 1, 1)
        if name == "brightness":
            images = (images * strength).clamp(0, 1)
        elif name == "contrast":
            images = _blend(images, _masked_mean(_grayscale(images), mask), strength)
        elif images.shape[1] != 3:
            continue
        elif name == "saturation":
            images = _blend(images, _grayscale(images), strength)
        else:
            images = _shift_hue(images, strength)
    return images


def _blend(images: torch.Tensor, other: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
    return torch.lerp(other.expand_as(images), images, ratio).clamp(0, 1)


def _grayscale(images: torch.Tensor) -> torch.Tensor:
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.unbind(dim=1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        return values.mean(dim=(1, 2, 3), keepdim=True)
    weight = mask.to(values.dtype)
    return (values * weight).sum(dim=(1, 2, 3), keepdim=True) / weight.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)


def _shift_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Rotate the hue of RGB images (B, 3, H, W) by ``shift`` (B, 1, 1, 1) turns, keeping value and chroma."""
    red, green, blue = images.unsqueeze(2).unbind(dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    safe = torch.where(chroma > 0, chroma, 1.0)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, (blue - red) / safe + 2.0, (red - green) / safe + 4.0),
    )
    hue = sextant + 6.0 * shift
    # Red, green and blue are the same trapezoid of the hue, shifted by 5, 3 and 1 sixths of a turn.
    return torch.cat([value - chroma * _trapezoid((hue + offset).remainder(6.0)) for offset in (5.0, 3.0, 1.0)], dim=1)


def _trapezoid(position: torch.Tensor) -> torch.Tensor:
    return torch.minimum(position, 4.0 - position).clamp(0, 1)


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Random brightness, contrast, saturation and hue of whole images, in random order.

    The batched counterpart of torchvision's transform of the same name, with which CutPaste jitters patches and images
    (Li et al., CVPR 2021, appendix A.2; https://arxiv.org/abs/2104.04015).

    Args:
        brightness: Factors are drawn from [1 - brightness, 1 + brightness]. In [0, 1].
        contrast: As brightness, in [0, 1].
        saturation: As brightness, in [0, 1].
        hue: Shifts are drawn from [-hue, hue] turns of the colour circle. In [0, 0.5].

    Raises:
        ValueError: If a strength is outside its limits.

    Example:
        >>> import torch
        >>> jitter = ColorJitter(0.1, 0.1, 0.1, 0.1)
        >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> changed, masks = jitter(images, generator=torch.Generator().manual_seed(0))
        >>> changed.shape, masks.all().item()
        (torch.Size([2, 3, 32, 32]), True)
    """

    brightness: float = 0.1
    contrast: float = 0.1
    saturation: float = 0.1
    hue: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("brightness", "contrast", "saturation"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("hue", self.hue, 0, 0.5)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw one strength per operation and sample; see :func:`sample_color_jitter`."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return sample_color_jitter(shape[0], strengths, device, generator)

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Jitter ``images`` (B, C, H, W); every pixel counts as written."""
        masks = torch.ones_like(images[:, :1], dtype=torch.bool)
        return color_jitter(images, parameters), masks
