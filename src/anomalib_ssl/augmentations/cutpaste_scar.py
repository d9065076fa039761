# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste-Scar: a thin, rotated, colour-jittered strip of the image, pasted elsewhere in the same image."""

import math
from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.base import Parameters, PasteAugmentation, scaled_pixels
from anomalib_ssl.augmentations.bilinear import sample_bilinear
from anomalib_ssl.augmentations.color_jitter import jitter_pixels, sample_color_jitter
from anomalib_ssl.augmentations.pixels import Paste, from_unit, gather_pixels, to_unit
from anomalib_ssl.augmentations.sampling import Device, Shape, integers, integers_up_to, uniform
from anomalib_ssl.checks import check_number, check_whole_range

_GEOMETRY = ("height", "width", "source_top", "source_left", "center_y", "center_x", "angle")


def _locate_strip(
    strip: Parameters, window_height: int, window_width: int, image_height: int, image_width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """List the pixels of windows with the upright strips in their top left corners, from parameters (B, 1, 1).

    Returns:
        Indices (B, 1, L) and which of the pixels belong to the strip (B, L).
    """
    row = torch.arange(window_height, device=strip["height"].device).unsqueeze(1)
    col = torch.arange(window_width, device=strip["width"].device)
    source_row = (strip["source_top"] + row).clamp_(max=image_height - 1)
    source_col = (strip["source_left"] + col).clamp_(max=image_width - 1)
    index = (source_row * image_width + source_col).flatten(1).unsqueeze(1)
    return index, ((row < strip["height"]) & (col < strip["width"])).flatten(1)


def _locate_scar(
    strip: Parameters, window_height: int, window_width: int, side: int, image_height: int, image_width: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rotate the pixels around each scar back into its upright strip, from parameters (B, 1, 1).

    Returns:
        Indices (B, 1, L) of the pixels, their positions in the window of the strip as ``grid_sample`` takes them
        (B, side, side, 2), and which of them lie in the scar (B, 1, L).
    """
    height, width, angle = strip["height"], strip["width"], strip["angle"]
    y = _window(strip["center_y"], side, image_height).unsqueeze(2)
    x = _window(strip["center_x"], side, image_width).unsqueeze(1)
    offset_y, offset_x = y + 0.5 - strip["center_y"], x + 0.5 - strip["center_x"]
    cos, sin = angle.cos(), angle.sin()
    strip_y = offset_x * sin + offset_y * cos + height / 2
    strip_x = offset_x * cos - offset_y * sin + width / 2
    inside = (strip_y > 0) & (strip_y < height) & (strip_x > 0) & (strip_x < width)
    # Clamping to the outermost pixel centres keeps what lies beside the strip out of the interpolation.
    sample_y = strip_y.clamp(min=0.5).minimum(height - 0.5) * (2 / window_height) - 1
    sample_x = strip_x.clamp(min=0.5).minimum(width - 0.5) * (2 / window_width) - 1
    index = (y * image_width + x).flatten(1).unsqueeze(1)
    return index, torch.stack([sample_x, sample_y], dim=-1), inside.flatten(1).unsqueeze(1)


def _window(center: torch.Tensor, side: int, limit: int) -> torch.Tensor:
    """Positions (B, side) around centres (B, 1, 1): near a border the window moves back rather than being cut."""
    side = min(side, limit)
    start = (center.squeeze(2) - side / 2).floor().clamp(min=0, max=limit - side).long()
    return start + torch.arange(side, device=center.device)


@dataclass(frozen=True)
class CutPasteScar(PasteAugmentation):
    """Cut a thin strip, jitter its colours, rotate it and paste it at another place of the same image.

    Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021, section 2.2 and
    appendix A.2 (https://arxiv.org/abs/2104.04015). The paper gives the ranges, in pixels of a 256x256 image, but names
    no distribution: here sizes are uniform integers and angles uniform. The strip is uniform over all places in the
    image, the scar over all places where the bounding box of the rotated strip fits.

    Args:
        width: Smallest and largest width of the strip in pixels, at least 1.
        length: Smallest and largest length of the strip in pixels, at least 1.
        angle: Rotations are drawn from [-angle, angle] degrees. In [0, 180].
        jitter: Strength of the strip's colour jitter (brightness, contrast, saturation and hue alike), in [0, 0.5].
        reference_size: Shorter image side in pixels to which ``width`` and ``length`` refer; other images scale them,
            to 1 pixel at least. None takes them as they are.

    Raises:
        ValueError: If an argument is outside its limits, or at the first image too small for the largest scar.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> augment = CutPasteScar()
        >>> parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> scarred, masks = augment.apply(images, parameters)
        >>> torch.equal(torch.where(masks, images, scarred), images)
        True
    """

    width: tuple[int, int] = (2, 16)
    length: tuple[int, int] = (10, 25)
    angle: float = 45.0
    jitter: float = 0.1
    reference_size: float | None = 256

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_whole_range("width", self.width, 1)
        check_whole_range("length", self.length, 1)
        check_number("angle", self.angle, 0, 180)
        check_number("jitter", self.jitter, 0, 0.5)
        if self.reference_size is not None:
            check_number("reference_size", self.reference_size, 1)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw strip sizes, places, rotations and colour changes.

        Returns:
            Shape (B,) each: ``height``, ``width``, ``source_top`` and ``source_left`` of the strip in pixels;
            ``center_y`` and ``center_x`` of the pasted scar in pixels (the centre of the first pixel is 0.5); ``angle``
            in radians, counter-clockwise; what
            :func:`~anomalib_ssl.augmentations.color_jitter.sample_color_jitter` draws; and on the host ``window``
            (1, 3): a height and width that no strip of the batch exceeds, and the side of a square that holds any of
            them rotated.

        Raises:
            ValueError: If the images are smaller than the largest scar.
        """
        batch, (image_height, image_width) = shape[0], shape[-2:]
        widths, lengths = self._scaled(self.width, shape), self._scaled(self.length, shape)
        largest_side = math.ceil(math.hypot(widths[1], lengths[1]))
        if largest_side > min(image_height, image_width):
            msg = (
                f"Images of {image_height}x{image_width} are smaller than the largest scar: width={widths!r} and "
                f"length={lengths!r} need at least {largest_side}x{largest_side} pixels."
            )
            raise ValueError(msg)
        width = integers(*widths, batch, device, generator)
        height = integers(*lengths, batch, device, generator)
        angle = uniform(-math.radians(self.angle), math.radians(self.angle), batch, device, generator)
        cos, sin = angle.cos().abs(), angle.sin().abs()
        box_height = (height * cos + width * sin).ceil().clamp(max=image_height)
        box_width = (height * sin + width * cos).ceil().clamp(max=image_width)
        free = [image_height - height, image_width - width, image_height - box_height, image_width - box_width]
        source_top, source_left, top, left = integers_up_to(torch.stack(free).long(), generator)
        return {
            "height": height,
            "width": width,
            "angle": angle,
            "source_top": source_top,
            "source_left": source_left,
            "center_y": top + box_height / 2,
            "center_x": left + box_width / 2,
            "window": torch.tensor([[lengths[1], widths[1], largest_side + 1]], device="cpu"),
            **sample_color_jitter(batch, (self.jitter,) * 4, device, generator),
        }

    def paste(self, images: torch.Tensor, parameters: Parameters) -> Paste:
        """Work out the pixels to be written into ``images`` (B, C, H, W), in a window around each scar.

        A pixel belongs to the scar where its centre lies inside the rotated rectangle; its colour is interpolated
        bilinearly from the pixels of the strip alone.
        """
        # On the host by design: sizes of tensors, known without asking the device.
        strip_height, strip_width, side = parameters["window"][0].tolist()
        strip = {name: parameters[name].to(images.device).view(-1, 1, 1) for name in _GEOMETRY}
        source, exists = _locate_strip(strip, strip_height, strip_width, *images.shape[-2:])
        target, grid, inside = _locate_scar(strip, strip_height, strip_width, side, *images.shape[-2:])
        strips = to_unit(jitter_pixels(gather_pixels(images, source), parameters, exists)).contiguous()
        strips = strips.view(*images.shape[:2], strip_height, strip_width)
        scars = sample_bilinear(strips, grid.to(strips.dtype), "border")
        return Paste(target, from_unit(scars.flatten(2), images.dtype), inside)

    def _scaled(self, pixels: tuple[int, int], shape: Shape) -> tuple[int, int]:
        low, high = (max(scaled_pixels(bound, shape, self.reference_size), 1) for bound in pixels)
        return low, high
