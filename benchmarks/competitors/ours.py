# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""This package's augmentations for each task of the benchmark, in all the ways they can be run."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from harness.measure import Competitor

from anomalib_ssl.augmentations import ColorJitter, CutPaste, CutPasteScar, RandomShift
from anomalib_ssl.models.cutpaste.views import CutPasteViews

# In pixels of images of any size, as the others' are.
SCAR, SHIFT = CutPasteScar(reference_size=None), RandomShift(reference_size=None)

AUGMENTATIONS: dict[str, Callable[[torch.Tensor], Any]] = {
    "pastes": CutPasteViews("3way", CutPaste(), SCAR, RandomShift(0), ColorJitter(0, 0, 0, 0)),
    "training": CutPasteViews("3way", CutPaste(), SCAR, SHIFT, ColorJitter()),
    "CutPaste": CutPaste(),
    "CutPasteScar": SCAR,
    "RandomShift": SHIFT,
    "ColorJitter": ColorJitter(),
}

_LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def competitors(task: str, images: torch.Tensor) -> Iterator[Competitor]:
    """Run as is, for all data types and memory layouts of uint8 images (B, C, H, W)."""
    augmentation = AUGMENTATIONS[task]
    for name, source in _sources(images):
        yield Competitor(f"ours, {name}", partial(augmentation, source))
    yield Competitor("ours, uint8, contiguous, then to float32", lambda: augmentation(images)[0] / 255)
    if isinstance(augmentation, CutPasteViews):
        source = images / 255
        views, _ = augmentation(source)
        yield Competitor("ours, float32, contiguous, out=", partial(augmentation, source, out=views))


def _sources(images: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    for dtype, batch in (("float32", images / 255), ("uint8", images)):
        for layout, memory_format in _LAYOUTS.items():
            yield f"{dtype}, {layout}", batch.contiguous(memory_format=memory_format)
