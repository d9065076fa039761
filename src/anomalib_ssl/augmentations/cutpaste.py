# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste: a large patch of the image, colour-jittered, pasted elsewhere in the same image."""

import math
from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.base import Parameters, PasteAugmentation
from anomalib_ssl.augmentations.color_jitter import jitter_pixels, sample_color_jitter
from anomalib_ssl.augmentations.pixels import Paste, gather_pixels
from anomalib_ssl.augmentations.sampling import Device, Shape, integers_up_to, uniform
from anomalib_ssl.checks import check_number, check_range

_GEOMETRY = ("height", "width", "source_top", "source_left", "target_top", "target_left")


def _locate(
    patch: Parameters,
    max_pixels: int,
    image_width: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """List the pixels of patches row by row: their source and target indices, and which of them exist, (B, L) each."""
    width, count = patch["width"], patch["height"] * patch["width"]
    number = torch.arange(max_pixels, device=width.device)
    inside = number < count
    number = number.minimum(count - 1)
    # Faster than dividing integers. Rounding cannot reach the next integer, half a pixel away, below 2**23 pixels.
    dtype = torch.float32 if max_pixels < 2**23 else torch.float64
    row = (number.to(dtype).add_(0.5)).div_(width).long()
    in_window = number.add_(row.mul_(image_width - width))
    source = in_window + (patch["source_top"] * image_width + patch["source_left"])
    target = in_window + (patch["target_top"] * image_width + patch["target_left"])
    return source, target, inside


@dataclass(frozen=True)
class CutPaste(PasteAugmentation):
    """Cut a random rectangle, jitter its colours and paste it at another place of the same image.

    Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021, section 2.1 and
    appendix A.2 (https://arxiv.org/abs/2104.04015). The paper gives the ranges of area and aspect but names no
    distribution on them: here the area is uniform, and the aspect ratio comes from either interval with equal chance.
    A patch that would be longer than the image is as long as it, with the same area. Source and target are uniform over
    all places where the whole patch fits, independently, and may overlap.

    Args:
        area: Smallest and largest patch area as a share of the image's, in (0, 1].
        aspect: Two intervals of the patch's aspect ratio, width / height.
        jitter: Strength of the patch's colour jitter (brightness, contrast, saturation and hue alike), in [0, 0.5].

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> augment = CutPaste(jitter=0.0)
        >>> parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> pasted, masks = augment.apply(images, parameters)
        >>> torch.equal(masks.sum(dim=(1, 2, 3)), parameters["height"] * parameters["width"])
        True
        >>> torch.equal(torch.where(masks, images, pasted), images)
        True
    """

    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[tuple[float, float], tuple[float, float]] = ((0.3, 1.0), (1.0, 3.3))
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_range("area", self.area, 1e-6, 1)
        if not (isinstance(self.aspect, tuple) and len(self.aspect) == 2):
            msg = f"aspect must hold two intervals of width / height, got {self.aspect!r}."
            raise ValueError(msg)
        for interval in self.aspect:
            check_range("aspect", interval, 1e-3, 1e3)
        check_number("jitter", self.jitter, 0, 0.5)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw patch sizes, places and colour changes.

        Returns:
            Shape (B,) each: ``height``, ``width``, ``source_top``, ``source_left``, ``target_top`` and ``target_left``
            in pixels, sides rounded and limited to the image, both places inside it; what
            :func:`~anomalib_ssl.augmentations.color_jitter.sample_color_jitter` draws; and on the host ``max_pixels``
            (1, 1), a number of pixels that no patch of the batch exceeds.
        """
        batch, (image_height, image_width) = shape[0], shape[-2:]
        area = uniform(*self.area, batch, device, generator) * (image_height * image_width)
        aspect = self._sample_aspect(batch, device, generator)
        # Both sides fit, and the area stays: a side that was cut would take from it.
        aspect = aspect.clamp(min=area / image_height**2, max=image_width**2 / area)
        width = (area * aspect).sqrt().round().clamp(1, image_width).long()
        height = (area / aspect).sqrt().round().clamp(1, image_height).long()
        free = torch.stack([image_height - height, image_width - width])
        (source_top, source_left), (target_top, target_left) = integers_up_to(free.expand(2, -1, -1), generator)
        return {
            "height": height,
            "width": width,
            "source_top": source_top,
            "source_left": source_left,
            "target_top": target_top,
            "target_left": target_left,
            "max_pixels": torch.tensor([[self._max_pixels(image_height, image_width)]], device="cpu"),
            **sample_color_jitter(batch, (self.jitter,) * 4, device, generator),
        }

    def paste(self, images: torch.Tensor, parameters: Parameters) -> Paste:
        """Work out the pixels to be written: of ``images`` (B, C, H, W) only the patches are read and jittered."""
        # On the host by design: sizes of tensors, known without asking the device.
        (max_pixels,) = parameters["max_pixels"][0].tolist()
        patch = {name: parameters[name].to(images.device).unsqueeze(1) for name in _GEOMETRY}
        source, target, inside = _locate(patch, max_pixels, images.shape[-1])
        values = jitter_pixels(gather_pixels(images, source.unsqueeze(1)), parameters, inside)
        if values.requires_grad:
            # The last pixel of a patch is written again and again; its gradient counts once.
            values = torch.where(inside.unsqueeze(1), values, values.detach())
        return Paste(target.unsqueeze(1), values)

    def _sample_aspect(self, batch: int, device: Device, generator: torch.Generator | None) -> torch.Tensor:
        (low0, high0), (low1, high1) = self.aspect
        choice, first, second = uniform(0, 1, (3, batch), device, generator)
        return torch.where(choice < 0.5, first * (high0 - low0) + low0, second * (high1 - low1) + low1)

    def _max_pixels(self, image_height: int, image_width: int) -> int:
        """Bound the pixels of a patch, whose sides are rounded up by half a pixel at most and limited to the image."""
        area = self.area[1] * image_height * image_width
        bounds = [bound for interval in self.aspect for bound in interval]
        # height + width at a given area is largest at one end of the aspects.
        sides = max(math.sqrt(area * aspect) + math.sqrt(area / aspect) for aspect in (min(bounds), max(bounds)))
        return min(max(math.ceil(area + sides / 2 + 1), image_height, image_width), image_height * image_width)
