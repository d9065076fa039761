# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Defects planted in sound images: what scores are chosen by, without any label."""

from collections.abc import Iterable, Iterator, Mapping

import torch

from anomalib_ssl.augmentations import Augmentation, CutPaste, LocalAugmentation

FAMILIES: Mapping[str, Augmentation] = {
    "small patches": CutPaste(area=(0.004, 0.03)),
    "large patches": CutPaste(area=(0.02, 0.12)),
    "local changes": LocalAugmentation(),
}
"""What is planted: pasted patches of two sizes, and rectangles turned, discoloured, jumbled or drained of colour."""

LEAST_IMAGES = 32
"""So many defects of each family are planted at least; fewer images get several."""

MOST_IMAGES = 64
"""So many images are enough."""

SEED = 0
"""The defects are the same each time, so that choices of two trainings can be compared."""


def plant(images: Iterable[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Plant defects of all families.

    Args:
        images: Sound images in batches (B, 3, H, W), values in [0, 1]; gone through repeatedly if they are few.

    Yields:
        Name of the family, images (B, 3, H, W) with a defect each where one can be planted, and boolean masks
        (B, 1, H, W) of the pixels that changed.

    Example:
        >>> import torch
        >>> names = [name for name, _, _ in plant([torch.rand(32, 3, 64, 64)])]
        >>> names
        ['small patches', 'large patches', 'local changes']
    """
    generators: dict[str, torch.Generator] = {}
    count = 0
    while count < LEAST_IMAGES:
        before = count
        for batch in images:
            for number, (name, family) in enumerate(FAMILIES.items()):
                if name not in generators:
                    generators[name] = torch.Generator(batch.device).manual_seed(SEED + number)
                changed, _ = family(batch, generators[name])
                # Black on black is no defect.
                yield name, changed, (changed != batch).any(dim=1, keepdim=True)
            count += len(batch)
            if count >= MOST_IMAGES:
                return
        if count == before:
            return
