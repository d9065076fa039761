# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the network is trained to tell apart, and how far each of its stages is from normal."""

import torch

from anomalib_ssl.inspection import Column, Inspection, captions, scored_map
from anomalib_ssl.models.dynamic_local_augmentation.heads import Projection
from anomalib_ssl.models.dynamic_local_augmentation.loss import cosine
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import DynamicLocalAugmentationModel
from anomalib_ssl.models.dynamic_local_augmentation.views import TrainingViews

NOTE = "over all places of a stage; 1 is the mean of the training images"


def inspect(model: DynamicLocalAugmentationModel, views: TrainingViews, images: torch.Tensor) -> Inspection:
    """Show views with the cosine by which each resembles the first, and deviations of the images stage by stage.

    Args:
        model: A fitted model in evaluation mode.
        views: What training makes of the images.
        images: Shape (B, 3, H, W), values in [0, 1].

    Returns:
        Images, views, locally augmented versions where there are such, distances of each stage, and maps; mean and
        largest deviations of each stage.
    """
    kinds = views.images.chunk(2 if views.masks is None else 3)
    # A single image is trained on as two of the same.
    first, second, *negatives = (kind[: len(images)] for kind in kinds)
    embeddings = model.embed(views.images)
    columns = [
        Column("input", images),
        Column("view", first),
        Column("other view", second, captions("cosine", _similarity(embeddings.global_)[: len(images)])),
    ]
    for negative in negatives:
        changed = (negative != first).any(dim=1, keepdim=True)
        likeness = [] if embeddings.negative is None else captions("cosine", _similarity(embeddings.negative))
        columns.append(Column("local augmentation", negative, likeness[: len(images)], outlined=changed))
    measured = model.measure(model.exposure(images))
    deviations = {
        name: deviation(maps)
        for (name, deviation), maps in zip(model.deviations.items(), measured, strict=False)
        if maps is not None
    }
    names = model.encoder.score_names
    columns += [Column(f"distance, {name}", maps) for name, maps in zip(names, deviations["distance"], strict=True)]
    numbers = [
        {
            "stage": name,
            **{
                f"{kind}, {word}": float(value)
                for kind, maps in deviations.items()
                for word, value in (("mean", maps[stage].mean()), ("largest", maps[stage].max()))
            },
        }
        for stage, name in enumerate(names)
    ]
    note = "" if model.distance.normalize == "none" else NOTE
    return Inspection([*columns, scored_map(images, model.score_images(images))], numbers, note)


def _similarity(projections: Projection) -> torch.Tensor:
    """Mean of the two cosines that training compares: shape (B,)."""
    first, second = projections.halves()
    return (cosine(first.predicted, second.projected) + cosine(second.predicted, first.projected)) / 2
