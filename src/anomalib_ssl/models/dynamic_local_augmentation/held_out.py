# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How well maps show local augmentations of normal images that were not trained on."""

from collections.abc import Iterable

import torch
from torchmetrics.functional.classification import binary_auroc

from anomalib_ssl.augmentations import LocalAugmentation
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import DynamicLocalAugmentationModel

LEAST_IMAGES = 32
"""Least number of augmented images; fewer images are augmented repeatedly."""

_SEED = 0
"""Seed of these augmentations, the same at every look."""

_SIDE = 128
"""Maps are thinned to about so many rows and columns: enough for an AUROC, and much faster."""


def measure(
    model: DynamicLocalAugmentationModel, images: Iterable[torch.Tensor], augment: LocalAugmentation
) -> dict[str, torch.Tensor]:
    """Measure how well a model finds local augmentations, with the same ones each time.

    Args:
        model: A fitted model in evaluation mode.
        images: Clean images that were not trained on, in batches (B, 3, H, W), values in [0, 1]. Fewer than 32 are gone
            through repeatedly.
        augment: What makes them abnormal.

    Returns:
        ``pixel_AUROC`` of the map against the masks of the augmentations; the same of ``distance`` and ``uncertainty``
        alone; and ``uncertainty_share``, the share of the latter in the map's sum. Nothing where no image could be
        changed.

    Raises:
        ValueError: If there are no images.
    """
    distance, uncertainty, masks = augmented_errors(model, images, augment)
    if not masks.any():
        return {}
    metrics = {"distance_pixel_AUROC": pixel_auroc(distance, masks)}
    total = model.alphas[0] * distance
    if uncertainty is not None:
        metrics["uncertainty_pixel_AUROC"] = pixel_auroc(uncertainty, masks)
        own = model.alphas[1] * uncertainty
        total = total + own
        metrics["uncertainty_share"] = own.sum() / total.sum()
    return {**metrics, "pixel_AUROC": pixel_auroc(total, masks)}


@torch.no_grad()
def augmented_errors(
    model: DynamicLocalAugmentationModel, images: Iterable[torch.Tensor], augment: LocalAugmentation
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Distance, uncertainty and masks at pixels of locally augmented images.

    Args:
        model: A fitted model in evaluation mode.
        images: Clean images that were not trained on, in batches (B, 3, H, W), values in [0, 1].
        augment: What makes them abnormal.

    Returns:
        Distances, uncertainties (none where the model has none) and boolean masks, (N,) each.

    Raises:
        ValueError: If there are no images.
    """
    distances: list[torch.Tensor] = []
    uncertainties: list[torch.Tensor] = []
    abnormal: list[torch.Tensor] = []
    generator: torch.Generator | None = None
    count = 0
    while count < LEAST_IMAGES:
        before = count
        for batch in images:
            generator = generator or torch.Generator(batch.device).manual_seed(_SEED)
            changed, masks = augment(batch, generator)
            distance, uncertainty = model.error_maps(changed)
            stride = max(min(batch.shape[-2:]) // _SIDE, 1)
            for maps, kept in ((distance, distances), (uncertainty, uncertainties), (masks, abnormal)):
                if maps is not None:
                    kept.append(maps[..., ::stride, ::stride].flatten())
            count += len(batch)
        if count == before:
            msg = "Held-out images are needed to measure anything, got none."
            raise ValueError(msg)
    return torch.cat(distances), torch.cat(uncertainties) if uncertainties else None, torch.cat(abnormal)


def pixel_auroc(errors: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Area under the ROC curve of errors (N,) against boolean masks (N,)."""
    # torchmetrics takes values outside of [0, 1] for logits.
    low, high = errors.aminmax()
    return binary_auroc((errors - low) / (high - low).clamp(min=torch.finfo(errors.dtype).tiny), masks.long())
