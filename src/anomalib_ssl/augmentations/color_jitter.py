# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Colour jitter with one strength per sample, optionally restricted to a mask."""

from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.pixels import cached_blocks, check_samples, from_unit, full_masks, to_unit
from anomalib_ssl.augmentations.sampling import Device, Shape, host_generator, uniform
from anomalib_ssl.checks import check_number

OPERATIONS = ("brightness", "contrast", "saturation", "hue")
"""Index of each operation in the drawn order."""

_LUMA = (0.2989, 0.587, 0.114)

_CACHED_PIXELS = 2**17
"""Pixels that a CPU jitters at once: the ten or so intermediate planes of so many stay in its caches."""


def sample_color_jitter(
    batch_size: int,
    strengths: tuple[float, float, float, float],
    device: Device = None,
    generator: torch.Generator | None = None,
) -> Parameters:
    """Draw the strengths of a colour jitter and the order of its operations.

    The order is shared by the batch, as in Kornia, and lives on the host: were it a value on an accelerator, using it
    would make the host wait.

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
    used = [(name, strength) for name, strength in zip(OPERATIONS, strengths, strict=True) if strength > 0]
    if not used:
        return {}
    draws = uniform(-1, 1, (len(used), batch_size), device, generator)
    parameters = {
        name: draw * strength + (0.0 if name == "hue" else 1.0)
        for (name, strength), draw in zip(used, draws.unbind(), strict=True)
    }
    order = torch.randperm(len(OPERATIONS), generator=host_generator(generator), device="cpu")
    return {**parameters, "order": order.unsqueeze(0)}


def color_jitter(images: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Apply brightness, contrast, saturation and hue changes in the drawn order.

    Equal to ``torchvision.transforms.v2.ColorJitter`` applied sample by sample with the same strengths and order.
    Values are clamped to [0, 1] after every operation.

    Args:
        images: Shape (B, C, H, W), floats in [0, 1] or uint8. Saturation and hue apply to three channels only.
        parameters: What :func:`sample_color_jitter` returned.

    Returns:
        The jittered images (B, C, H, W), of the images' data type and memory format; the images themselves where the
        parameters are empty.
    """
    for name in parameters.keys() & OPERATIONS:
        check_samples(parameters[name], images)
    return jitter_pixels(images.flatten(2), parameters).view(images.shape)


def jitter_pixels(pixels: torch.Tensor, parameters: Parameters, inside: torch.Tensor | None = None) -> torch.Tensor:
    """Jitter colours as :func:`color_jitter` does, of any list of pixels per sample.

    Args:
        pixels: Shape (B, C, L), floats in [0, 1] or uint8.
        parameters: What :func:`sample_color_jitter` returned.
        inside: Boolean, shape (B, L): the pixels whose mean brightness the contrast refers to. Defaults to all.

    Returns:
        The jittered pixels (B, C, L), of the same data type and memory format.
    """
    if "order" not in parameters:
        return pixels
    # On the host by design, see sample_color_jitter.
    names = [OPERATIONS[index] for index in parameters["order"][0].tolist()]
    strengths = [(name, parameters[name].to(pixels.device)) for name in names if name in parameters]
    result = torch.empty_like(pixels)
    for block in cached_blocks(pixels, pixels.shape[2], _CACHED_PIXELS):
        # Planes of one colour each are what the arithmetic is fast on.
        changed = to_unit(pixels[block].contiguous())
        for name, strength in strengths:
            changed = _apply(name, changed, strength[block], None if inside is None else inside[block])
        result[block] = from_unit(changed, pixels.dtype)
    return result


def _apply(name: str, pixels: torch.Tensor, strength: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    strength = strength.to(pixels.dtype).view(-1, 1, 1)
    if name == "brightness":
        return _scale_brightness(pixels, strength)
    if name == "contrast":
        return _scale_contrast(pixels, strength, inside)
    if pixels.shape[1] != 3:
        return pixels
    return _scale_saturation(pixels, strength) if name == "saturation" else _shift_hue(pixels, strength)


def _scale_brightness(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return (pixels * strength).clamp_(0, 1)


def _scale_contrast(pixels: torch.Tensor, strength: torch.Tensor, inside: torch.Tensor | None) -> torch.Tensor:
    gray = _grayscale(pixels)
    mean = gray.mean(dim=1) if inside is None else (gray * inside).sum(dim=1) / inside.sum(dim=1).clamp_(min=1)
    return torch.lerp(mean.view(-1, 1, 1).expand_as(pixels), pixels, strength).clamp_(0, 1)


def _scale_saturation(pixels: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    return torch.lerp(_grayscale(pixels).unsqueeze(1).expand_as(pixels), pixels, strength).clamp_(0, 1)


def _grayscale(pixels: torch.Tensor) -> torch.Tensor:
    if pixels.shape[1] != 3:
        return pixels.mean(dim=1)
    red, green, blue = pixels.unbind(dim=1)
    return (_LUMA[0] * red).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _shift_hue(pixels: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Rotate the hue of RGB pixels (B, 3, L) by ``shift`` (B, 1, 1) turns, keeping value and chroma.

    With channels scaled so that the smallest is 0 and the largest 1, the hue in sixths of a turn is
    ``1 + green + blue - red`` on the half circle where green exceeds blue, and the negative of that on the other: a
    form without case distinctions. Each new channel is ``minimum + chroma * (2 - distance)``, clamped, of the distance
    on the circle to that channel's own hue (0, 2 and 4 sixths).
    """
    red, green, blue = pixels.unbind(dim=1)
    low = torch.minimum(red, green).minimum(blue)
    chroma = torch.maximum(red, green).maximum(blue).sub_(low)
    # A grey pixel has no hue; its chroma of 0 cancels whatever comes out here.
    hue = (green + blue).sub_(red).sub_(low).div_(chroma.clamp(min=torch.finfo(pixels.dtype).tiny)).add_(1)
    hue = hue.copysign(green - blue) + 6 * shift.squeeze(1)
    hue = hue.sub_((hue * (1 / 6)).floor_(), alpha=6)
    # From 0 the distance is 3 - |hue - 3| on the whole circle; from 2 and 4 what wraps around is clamped anyway.
    high = torch.add(low, chroma, alpha=2)
    new_red = torch.addcmul(low - chroma, chroma, (hue - 3).abs_().clamp_(1, 2))
    new_green = torch.addcmul(high, chroma, (hue - 2).abs_().clamp_(1, 2), value=-1)
    new_blue = torch.addcmul(high, chroma, (hue - 4).abs_().clamp_(1, 2), value=-1)
    return torch.stack([new_red, new_green, new_blue], dim=1)


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
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            check_number(name, getattr(self, name), 0, 1)
        check_number("hue", self.hue, 0, 0.5)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw one strength per operation and sample; see :func:`sample_color_jitter`."""
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        return sample_color_jitter(shape[0], strengths, device, generator)

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Jitter ``images`` (B, C, H, W); every pixel counts as written."""
        return color_jitter(images, parameters), full_masks(images, True)
