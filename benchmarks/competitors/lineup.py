# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Who takes part in one task of the benchmark, and how each is accounted for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from anomalib.models.image.foundad.components.cutpaste import CutPasteUnion
from harness.measure import Competitor
from PIL.Image import Image
from torchvision.transforms.functional import normalize, pil_to_tensor

from anomalib_ssl.models.components.backbone import IMAGENET_MEAN, IMAGENET_STD
from competitors import ours, pil, tensor
from competitors.loader import LoaderPass

REFERENCE = "PIL, image by image"

PER_IMAGE = 32
"""Images per call of what works image by image; its rate does not depend on the batch."""


@dataclass(frozen=True)
class Entry:
    """A competitor, and how to account for it.

    Args:
        competitor: What is timed.
        images: Source images per call.
        views: Augmented views per source image; none where nothing is augmented.
        in_tensors: Whether its memory is all in tensors of the device and so can be measured.
    """

    competitor: Competitor
    images: int
    views: int | None
    in_tensors: bool = True


def build_lineup(task: str, device: str, images: Sequence[Image], workers: int) -> list[Entry]:
    """Collect what takes part in one task, the reference first.

    Args:
        task: A key of ``pil.VIEWS``.
        device: Where batches and tensors are, and where PIL's views go.
        images: The batch.
        workers: Worker processes of the PIL way's loader; 0 leaves it out.
    """
    batch = torch.stack([pil_to_tensor(image) for image in images]).to(device)
    floats = batch / 255
    three = task in ("pastes", "training")
    views = 2 if three else 1
    some = images[:PER_IMAGE]

    entries = [
        Entry(Competitor(REFERENCE, partial(_one_by_one, pil.VIEWS[task], some, device)), len(some), views, False),
        Entry(
            Competitor(
                "torchvision v2, tensor by tensor", partial(_one_by_one, tensor.VIEWS[task], list(floats[:PER_IMAGE]))
            ),
            len(some),
            views,
        ),
    ]
    if workers:
        loader = LoaderPass(some, pil.VIEWS[task], workers, device)
        name = f"PIL in a loader, worker processes: {workers}"
        entries.append(Entry(Competitor(name, loader), loader.length, views, in_tensors=False))
    if task == "pastes":
        union = partial(CutPasteUnion(), normalize(floats, IMAGENET_MEAN, IMAGENET_STD))
        entries.append(Entry(Competitor("anomalib's CutPasteUnion (FoundAD), either paste", union), len(batch), 1))
    entries += [Entry(competitor, len(batch), views) for competitor in ours.competitors(task, batch)]
    entries.append(Entry(Competitor("limit: a copy of the images, float32", floats.clone), len(batch), None))
    if three:
        copies = Competitor("limit: three copies of the images, float32", partial(floats.repeat, 3, 1, 1, 1))
        entries.append(Entry(copies, len(batch), None))
    return entries


def _one_by_one(views: Callable[[Any], torch.Tensor], images: Sequence[Any], device: str | None = None) -> torch.Tensor:
    """Work image by image and stack what comes out, as a loader does."""
    return torch.stack([views(image) for image in images]).to(device)
