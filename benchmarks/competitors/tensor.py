# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste on one tensor image (3, H, W) at a time, with torchvision's v2 transforms."""

from collections.abc import Callable

import torch
from torchvision.transforms.v2 import ColorJitter
from torchvision.transforms.v2 import functional as F  # noqa: N812

from competitors.draw import MAX_SHIFT, Place, draw_patch, draw_place, draw_shift, draw_strip

jitter = ColorJitter(0.1, 0.1, 0.1, 0.1)


def cut_paste(image: torch.Tensor) -> tuple[torch.Tensor, Place]:
    """Paste a jittered patch of an image elsewhere in it; also gives the rectangle it covers."""
    image_size = (image.shape[-2], image.shape[-1])
    size = draw_patch(*image_size)
    source, target = (draw_place(size, image_size) for _ in range(2))
    result = image.clone()
    result[target.slices] = jitter(image[source.slices])
    return result, target


def cut_paste_scar(image: torch.Tensor) -> tuple[torch.Tensor, Place]:
    """Paste a jittered and rotated strip of an image elsewhere in it; also gives the rectangle around it."""
    image_size = (image.shape[-2], image.shape[-1])
    height, width, angle = draw_strip()
    strip = jitter(image[draw_place((height, width), image_size).slices])
    # The fourth channel is rotated along and shows afterwards which pixels are the strip's.
    strip = F.rotate(torch.cat([strip, torch.ones_like(strip[:1])]), angle, expand=True)
    target = draw_place((strip.shape[-2], strip.shape[-1]), image_size)
    result = image.clone()
    region = result[target.slices]
    region.copy_(torch.where(strip[3:] > 0.5, strip[:3], region))
    return result, target


def shift(image: torch.Tensor) -> torch.Tensor:
    """Move an image by up to 16 pixels, borders mirrored."""
    padded = F.pad(image, [MAX_SHIFT], padding_mode="reflect")
    return F.crop(padded, *draw_shift(), image.shape[-2], image.shape[-1])


def three_views(image: torch.Tensor) -> torch.Tensor:
    """Stack an image and both its pastes, (3, 3, H, W)."""
    return torch.stack([image, cut_paste(image)[0], cut_paste_scar(image)[0]])


VIEWS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "pastes": three_views,
    "training": lambda image: three_views(jitter(shift(image))),
    "CutPaste": lambda image: cut_paste(image)[0],
    "CutPasteScar": lambda image: cut_paste_scar(image)[0],
    "RandomShift": shift,
    "ColorJitter": jitter,
}
"""From an image to its views, for each task of the benchmark."""
