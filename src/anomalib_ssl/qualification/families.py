# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Families of defects: what each makes of a sound image, at full strength."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import cv2
import numpy as np
import torch

from anomalib_ssl.augmentations import BlendedPatch, CutPaste, CutPasteScar, LocalCorruption, blend_windows
from anomalib_ssl.augmentations.sampling import integers_up_to, uniform

ASPECT = 0.6
"""Shorter side of a patch, as a share of the longer one."""

SLENDERNESS = 8
"""Length of a scar over its width."""

BULGE = 1.2
"""By how much the waves around a corrupted region lengthen it, in the mean."""

SOFT = 0.17
"""Share of the way from a stain's outline to its middle up to which it cannot be seen yet."""

ROOM = 4
"""Side of the window in which a defect is made, in sizes of the defect."""

LEAST_WINDOW = 64
"""Least side of that window in pixels."""

INPAINTED = 48
"""Larger parts are inpainted at a smaller scale, in pixels of their extent: what is painted in is smooth anyway."""

Change: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""A changed image (1, 3, H, W) and the boolean mask (1, 1, H, W) of its defect."""


class Scene(NamedTuple):
    """Where a defect is planted.

    Args:
        image: A sound image (1, 3, H, W), values in [0, 1].
        other: Another sound image of the same size, whose content may be planted; or the image itself.
        size: Longest extent of the defect in pixels.
        generator: Source of randomness on the host.
    """

    image: torch.Tensor
    other: torch.Tensor
    size: float
    generator: torch.Generator


def patch(scene: Scene) -> Change:
    """Paste a rectangle of the image, slightly recoloured, at another place: see ``CutPaste``."""
    height, width = scene.image.shape[-2:]
    area = min(max(ASPECT * scene.size**2 / (height * width), 1e-6), 1.0)
    aspects = ((ASPECT, ASPECT), (1 / ASPECT, 1 / ASPECT))
    return CutPaste(area=(area, area), aspect=aspects)(scene.image, scene.generator)


def scar(scene: Scene) -> Change:
    """Paste a thin strip of the image, turned in any direction, at another place: see ``CutPasteScar``."""
    length, width = max(round(scene.size), 1), max(round(scene.size / SLENDERNESS), 1)
    augment = CutPasteScar(width=(width, width), length=(length, length), angle=180, reference_size=None)
    return augment(scene.image, scene.generator)


def blended(scene: Scene) -> Change:
    """Blend a patch of another image in, so that its border cannot be seen: see ``BlendedPatch``."""

    def change(windows: torch.Tensor) -> Change:
        height, width = ((scene.size / side,) * 2 for side in windows.shape[-2:])
        augment = BlendedPatch(1, height, width, (1, 1), ("rectangle", "ellipse", "blob"))
        return augment(windows, scene.generator)

    return _in_window(scene, change)


def corruption(scene: Scene) -> Change:
    """Fill an irregular region with noise, one colour, displaced or deformed content: see ``LocalCorruption``."""

    def change(windows: torch.Tensor) -> Change:
        radius = scene.size / 2 / BULGE / min(windows.shape[-2:])
        augment = LocalCorruption(
            p=1,
            shapes=("ellipse", "blob"),
            regions=(1, 1),
            axes=(radius, radius),
            displacement=(0, radius / 4),
            area=(0, 1),
            feather=(0, 2),
            reference_size=None,
            opacity=(1, 1),
        )
        return augment(windows, scene.generator)

    return _in_window(scene, change)


def stain(scene: Scene) -> Change:
    """Darken, lighten or tint an elliptic spot with a soft edge."""

    def change(windows: torch.Tensor) -> Change:
        window = windows[:1]
        level = _ellipse(window, scene.size / (1 - SOFT), scene.generator)
        kept, tint, light = uniform(0, 1, (3, 3), None, scene.generator)
        kept = (0.2 + 0.4 * (0.7 * kept[:1] + 0.3 * tint)).view(1, 3, 1, 1)
        source = 1 - (1 - window) * kept if light[0] < 0.5 else window * kept
        return blend_windows(window, source, level, "soft"), level > SOFT * level.amax()

    return _in_window(scene, change)


def missing(scene: Scene) -> Change:
    """Take a part of the image away: OpenCV paints its surroundings over it (Telea, 2004)."""

    def change(windows: torch.Tensor) -> Change:
        window = windows[:1]
        mask = _ellipse(window, scene.size, scene.generator) > 0
        scale = min(INPAINTED / scene.size, 1.0)
        size = [max(round(side * scale), 1) for side in window.shape[:1:-1]]
        pixels = (window[0].permute(1, 2, 0) * 255).round().byte().numpy()
        # A pixel around is painted over as well: what is blurred there is of the part.
        hole = cv2.dilate(mask[0, 0].byte().numpy(), np.ones((3, 3), np.uint8))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        small_hole = (cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0).astype(np.uint8)
        painted = cv2.resize(cv2.inpaint(small, small_hole, 3, cv2.INPAINT_TELEA), pixels.shape[1::-1])
        filled = torch.from_numpy(painted.astype(np.float32) / 255).permute(2, 0, 1).unsqueeze(0)
        return torch.where(mask, filled, window), mask

    return _in_window(scene, change)


@dataclass(frozen=True)
class Family:
    """A kind of defect.

    Args:
        make: Makes the defect, at full strength.
        strongest: How many times the full strength a defect may have, where its contrast asks for it. A part that is
            missing cannot miss more than wholly.
    """

    make: Callable[[Scene], Change]
    strongest: float = 4.0


FAMILIES: Mapping[str, Family] = {
    "patch": Family(patch),
    "scar": Family(scar),
    "stain": Family(stain),
    "blended patch": Family(blended),
    "corruption": Family(corruption),
    "missing part": Family(missing, strongest=1.0),
}
"""All families by name."""


def _in_window(scene: Scene, change: Callable[[torch.Tensor], Change]) -> Change:
    """Make a defect in a window around it: content of the other image comes from another place of that."""
    sides = torch.tensor(scene.image.shape[-2:])
    window = sides.clamp(max=max(math.ceil(ROOM * scene.size), LEAST_WINDOW))
    (top, left), (other_top, other_left) = integers_up_to(
        (sides - window).unsqueeze(0).expand(2, -1), scene.generator
    ).tolist()
    height, width = window.tolist()
    own = scene.image[..., top : top + height, left : left + width]
    other = scene.other[..., other_top : other_top + height, other_left : other_left + width]
    changed, inside = change(torch.cat([own, other]))
    result, mask = scene.image.clone(), torch.zeros_like(scene.image[:, :1], dtype=torch.bool)
    result[..., top : top + height, left : left + width] = changed[:1]
    mask[..., top : top + height, left : left + width] = inside[:1]
    return result, mask


def _ellipse(window: torch.Tensor, size: float, generator: torch.Generator) -> torch.Tensor:
    """About the distance (1, 1, H, W) in pixels to the outline of an ellipse in the window; positive inside."""
    height, width = window.shape[-2:]
    down, right, turn, aspect = uniform(0, 1, 4, None, generator).tolist()
    half, other = size / 2, size / 2 * (0.5 + 0.5 * aspect)
    y = torch.arange(height).view(-1, 1) + 0.5 - (half + down * max(height - 2 * half, 0))
    x = torch.arange(width).view(1, -1) + 0.5 - (half + right * max(width - 2 * half, 0))
    cos, sin = math.cos(math.pi * turn), math.sin(math.pi * turn)
    radius = torch.hypot((x * cos + y * sin) / half, (y * cos - x * sin) / other)
    return ((1 - radius) * other).view(1, 1, height, width)
