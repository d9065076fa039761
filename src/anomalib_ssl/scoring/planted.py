# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Defects planted in sound images: what scores are chosen by, without any label."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from kornia.filters import gaussian_blur2d

from anomalib_ssl.augmentations import CutPaste

FAMILIES: Mapping[str, CutPaste] = {
    "small patches": CutPaste(area=(0.01, 0.05)),
    "large patches": CutPaste(area=(0.03, 0.15)),
}
"""What is planted: patches of the image, blended into another place of it.

Hard borders judge badly: what sees them best is not what sees defects best (docs/results/scoring.md).
"""

EDGE = 1 / 32
"""Standard deviation of the blur of a patch's border, as a share of the image's shorter side."""

VISIBLE = 0.2
"""Share of the patch in the mixture from which on a pixel counts as changed."""

LEAST_IMAGES = 32
"""So many defects of each family are planted at least; fewer images get several."""

MOST_IMAGES = 64
"""So many images are enough."""

SEED = 0
"""The defects are the same each time, so that choices of two trainings can be compared."""


def plant(images: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Plant defects of all families.

    Args:
        images: Sound images in batches (B, 3, H, W), values in [0, 1], or beyond where their exposure was changed; gone
            through repeatedly if they are few.

    Yields:
        Name of the family, images (B, 3, H, W) with a defect each where one can be planted, and boolean masks
        (B, 1, H, W) of the pixels that changed.

    Example:
        >>> import torch
        >>> names = [name for name, _, _ in plant([torch.rand(32, 3, 64, 64)])]
        >>> names
        ['small patches', 'large patches']
    """
    generators: dict[str, torch.Generator] = {}
    count = 0
    while count < LEAST_IMAGES:
        before = count
        for batch in images:
            for number, (name, family) in enumerate(FAMILIES.items()):
                if name not in generators:
                    generators[name] = torch.Generator(batch.device).manual_seed(SEED + number)
                # Brought to another brightness, an image may be lighter than 1, where a patch is not.
                lightest = batch.amax(dim=(1, 2, 3), keepdim=True).clamp(min=1)
                pasted, masks = family(batch / lightest, generators[name])
                pasted = pasted * lightest
                share = _blurred(masks)
                changed = batch.lerp(pasted, share)
                # Black on black is no defect.
                yield name, changed, (share > VISIBLE) & (changed != batch).any(dim=1, keepdim=True)
            count += len(batch)
            if count >= MOST_IMAGES:
                return
        if count == before:
            return


def _blurred(masks: torch.Tensor) -> torch.Tensor:
    """Shares (B, 1, H, W) that rise from 0 at the border of each mask to 1 inside."""
    side = min(masks.shape[-2:])
    sigma = EDGE * side
    kernel = 2 * min(round(2 * sigma), side // 2 - 1) + 1
    return (2 * gaussian_blur2d(masks.float(), (kernel, kernel), (sigma, sigma)) - 1).clamp(0, 1)
