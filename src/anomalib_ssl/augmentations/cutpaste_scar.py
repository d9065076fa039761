# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste-Scar: a thin, rotated, colour-jittered strip of the image, pasted elsewhere in the same image."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.augmentations.base import Parameters, PasteAugmentation, scaled_pixels
from anomalib_ssl.augmentations.color_jitter import color_jitter, sample_color_jitter
from anomalib_ssl.augmentations.random import integers, integers_up_to, uniform
from anomalib_ssl.augmentations.windows import gather_window, paste_window, window_positions
from anomalib_ssl.checks import check_number, check_range


def cut_paste_scar(images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """Copy one strip per image to another place, rotated about its centre.

    A pixel belongs to the scar where its centre lies inside the rotated rectangle; its colour is interpolated
    bilinearly from the pixels of the strip alone.

    Args:
        images: Shape (B, C, H, W), values in [0, 1].
        parameters: Shape (B,) each: ``height``, ``width``, ``source_top`` and ``source_left`` of the strip in pixels;
            ``center_y`` and ``center_x`` of the pasted scar in pixels (the centre of the first pixel is 0.5); ``angle``
            in radians, counter-clockwise; the jitter's strengths (see
            :func:`~anomalib_ssl.augmentations.color_jitter.color_jitter`); and on the host ``window`` (1, 3): a height
            and width that no strip of the batch exceeds, and the side of a square that holds any of them rotated.

    Returns:
        The changed images (B, C, H, W) and boolean masks (B, 1, H, W) of the pasted pixels.
    """
    # On the host by design: sizes of tensors, known without asking the device.
    strip_height, strip_width, side = parameters["window"].flatten().tolist()
    strip = {name: parameters[name].to(images.device).unsqueeze(1) for name in _GEOMETRY}
    strips = _cut(images, strip, strip_height, strip_width, parameters)
    rows, cols = _target_window(images, strip, side)
    position_y, position_x = _position_in_strip(rows, cols, strip)
    height, width = strip["height"].unsqueeze(2), strip["width"].unsqueeze(2)
    inside = (position_y > 0) & (position_y < height) & (position_x > 0) & (position_x < width)

    # Clamping to the outermost pixel centres keeps what lies beside the strip out of the interpolation.
    sample_y = position_y.clamp(min=0.5).minimum(height - 0.5) * (2 / strip_height) - 1
    sample_x = position_x.clamp(min=0.5).minimum(width - 0.5) * (2 / strip_width) - 1
    grid = torch.stack([sample_x, sample_y], dim=-1).to(strips.dtype)
    scars = F.grid_sample(strips, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return paste_window(images, scars, inside.unsqueeze(1), rows, cols)


_GEOMETRY = ("height", "width", "source_top", "source_left", "center_y", "center_x", "angle")


def _cut(images: torch.Tensor, strip: Parameters, height: int, width: int, parameters: Parameters) -> torch.Tensor:
    """Read the upright strips into the top left corner of (B, C, height, width) and jitter their colours."""
    row = torch.arange(height, device=images.device)
    col = torch.arange(width, device=images.device)
    rows = (strip["source_top"] + row).clamp(max=images.shape[-2] - 1)
    cols = (strip["source_left"] + col).clamp(max=images.shape[-1] - 1)
    inside = ((row < strip["height"]).unsqueeze(2) & (col < strip["width"]).unsqueeze(1)).unsqueeze(1)
    return color_jitter(gather_window(images, rows, cols), parameters, inside)


def _target_window(images: torch.Tensor, strip: Parameters, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns (B, side) of a window around each pasted scar."""
    image_height, image_width = images.shape[-2:]
    top = (strip["center_y"] - side / 2).floor().clamp(min=0).squeeze(1).long()
    left = (strip["center_x"] - side / 2).floor().clamp(min=0).squeeze(1).long()
    rows = window_positions(top, min(side, image_height), image_height)
    cols = window_positions(left, min(side, image_width), image_width)
    return rows, cols


def _position_in_strip(rows: torch.Tensor, cols: torch.Tensor, strip: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotate the window's pixel centres back into the upright strip: y and x in pixels from its corner, (B, h, w)."""
    y = (rows + 0.5 - strip["center_y"]).unsqueeze(2)
    x = (cols + 0.5 - strip["center_x"]).unsqueeze(1)
    cos, sin = strip["angle"].cos().unsqueeze(2), strip["angle"].sin().unsqueeze(2)
    position_y = x * sin + y * cos + strip["height"].unsqueeze(2) / 2
    position_x = x * cos - y * sin + strip["width"].unsqueeze(2) / 2
    return position_y, position_x


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
            to 1 pixel at least. Defaults to none, which takes them as they are.

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
    reference_size: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_range("width", self.width, 1)
        check_range("length", self.length, 1)
        check_number("angle", self.angle, 0, 180)
        check_number("jitter", self.jitter, 0, 0.5)
        if self.reference_size is not None:
            check_number("reference_size", self.reference_size, 1)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw strip sizes, places, rotations and colour changes; see :func:`cut_paste_scar` for the names.

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
        return {
            "height": height,
            "width": width,
            "angle": angle,
            "source_top": integers_up_to(image_height - height, generator),
            "source_left": integers_up_to(image_width - width, generator),
            "center_y": integers_up_to((image_height - box_height).long(), generator) + box_height / 2,
            "center_x": integers_up_to((image_width - box_width).long(), generator) + box_width / 2,
            "window": torch.tensor([[lengths[1], widths[1], largest_side + 1]], device="cpu"),
            **sample_color_jitter(batch, (self.jitter,) * 4, device, generator),
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste into ``images`` (B, C, H, W); the masks show the pasted scars."""
        return cut_paste_scar(images, parameters)

    def _scaled(self, pixels: tuple[int, int], shape: tuple[int, ...] | torch.Size) -> tuple[int, int]:
        low, high = (max(scaled_pixels(bound, shape, self.reference_size), 1) for bound in pixels)
        return low, high
