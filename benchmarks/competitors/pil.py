# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste on one PIL image at a time, inside a data set's ``__getitem__``: the usual way of public implementations."""

from collections.abc import Callable

import torch
from PIL.Image import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as F  # noqa: N812

from competitors.draw import MAX_SHIFT, Place, draw_patch, draw_place, draw_shift, draw_strip

jitter = ColorJitter(0.1, 0.1, 0.1, 0.1)


def cut_paste(image: Image) -> tuple[Image, Place]:
    """Paste a jittered patch of an image elsewhere in it; also gives the rectangle it covers."""
    size = draw_patch(image.height, image.width)
    source, target = (draw_place(size, (image.height, image.width)) for _ in range(2))
    result = image.copy()
    result.paste(jitter(image.crop(source.box)), target.box)
    return result, target


def cut_paste_scar(image: Image) -> tuple[Image, Place]:
    """Paste a jittered and rotated strip of an image elsewhere in it; also gives the rectangle around it."""
    height, width, angle = draw_strip()
    source = draw_place((height, width), (image.height, image.width))
    strip = jitter(image.crop(source.box)).convert("RGBA").rotate(angle, expand=True)
    target = draw_place((strip.height, strip.width), (image.height, image.width))
    result = image.copy()
    result.paste(strip, target.box, mask=strip.getchannel("A"))
    return result, target


def shift(image: Image) -> Image:
    """Move an image by up to 16 pixels, borders mirrored."""
    padded = F.pad(image, [MAX_SHIFT], padding_mode="reflect")
    return F.crop(padded, *draw_shift(), image.height, image.width)


def three_views(image: Image) -> torch.Tensor:
    """Turn an image and both its pastes into tensors, (3, 3, H, W)."""
    return torch.stack([F.to_tensor(view) for view in (image, cut_paste(image)[0], cut_paste_scar(image)[0])])


VIEWS: dict[str, Callable[[Image], torch.Tensor]] = {
    "pastes": three_views,
    "training": lambda image: three_views(jitter(shift(image))),
    "CutPaste": lambda image: F.to_tensor(cut_paste(image)[0]),
    "CutPasteScar": lambda image: F.to_tensor(cut_paste_scar(image)[0]),
    "RandomShift": lambda image: F.to_tensor(shift(image)),
    "ColorJitter": lambda image: F.to_tensor(jitter(image)),
}
"""From an image to tensors, for each task of the benchmark."""
