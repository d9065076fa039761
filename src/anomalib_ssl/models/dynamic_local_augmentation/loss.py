# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the network learns: equal features of normal images, opposite ones of locally augmented images."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.dynamic_local_augmentation.heads import Projection
from anomalib_ssl.models.dynamic_local_augmentation.pooling import average_pool
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import Embeddings
from anomalib_ssl.models.dynamic_local_augmentation.views import TrainingViews

OTHER_IMAGE = 0.5
"""Probability that a view shall be like one of another image of the batch, rather than of its own."""

COVERED = 0.5
"""Share of a place that is changed from which on its features shall be unlike those before."""


DENSE_WEIGHT = 0.1
"""Weight of the positives of places, by the note."""


class LossTerms(NamedTuple):
    """The loss and what it is made of, scalars in float32.

    Attributes:
        total: The weighted sum.
        parts: The terms in use by name, before they are weighted: ``global``, ``dense``, ``negative`` and ``local``.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor]


class ContrastiveLoss(nn.Module):
    """The weighted sum of four losses.

    ``L = L_global + 0.1 * L_dense + negative_weight * L_negative + local_weight * L_local``, of which a
    secondary note on the paper tells the first three, with weights of 1, 0.1 and 0.5; the last is this package's.

    Args:
        negative_weight: Weight of the locally augmented negatives; they need embeddings with a negative branch.
        local_weight: Weight of negatives and positives of places; they need embeddings with a local branch.

    Raises:
        ValueError: If a weight is negative.
    """

    def __init__(self, negative_weight: float = 0.5, local_weight: float = 0.0) -> None:
        super().__init__()
        weights = {"negative": negative_weight, "local": local_weight}
        for name, weight in weights.items():
            check_number(f"{name}_weight", weight, 0)
        self.weights = {"global": 1.0, "dense": DENSE_WEIGHT, **weights}

    def forward(self, embeddings: Embeddings, views: TrainingViews) -> LossTerms:
        """Compare views of normal images with each other and with their augmented counterparts.

        Which views of different images shall be alike is drawn at random.

        Args:
            embeddings: What the network makes of the views.
            views: The views; where they are really augmented decides on the negatives.
        """
        device = views.images.device
        with torch.autocast(device.type, enabled=False):
            first, second = embeddings.global_.halves()
            parts = {"global": global_loss(first, second, draw_partners(len(first.projected), device))}
            parts["dense"] = dense_loss(*embeddings.dense.halves(), *embeddings.dense_features.chunk(2))
            if embeddings.negative is not None and views.masks is not None:
                parts["negative"] = negative_loss(*embeddings.negative.halves(), views.masks.flatten(1).any(dim=1))
            if embeddings.local is not None and views.masks is not None:
                parts["local"] = local_loss(*embeddings.local.halves(), views.masks)
            total = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return LossTerms(total, parts)


def cosine(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle between vectors along dimension 1, in float32; no gradient reaches the target."""
    return F.cosine_similarity(predicted.float(), target.detach().float(), dim=1)


def draw_partners(batch_size: int, device: torch.device | str | None = None) -> torch.Tensor:
    """Draw, for each image of a batch, the image whose view shall be like its own: itself, or any other.

    Args:
        batch_size: Number of images B.
        device: Device of the result.

    Returns:
        Indices (B,).
    """
    own = torch.arange(batch_size, device=device)
    if batch_size == 1:
        return own
    step = torch.randint(1, batch_size, (batch_size,), device=device)
    other = torch.rand(batch_size, device=device) < OTHER_IMAGE
    return torch.where(other, (own + step) % batch_size, own)


def global_loss(first: Projection, second: Projection, partners: torch.Tensor) -> torch.Tensor:
    """Symmetric negative cosine of two views, of different images where ``partners`` (B,) says so.

    SimSiam's loss (Chen and He, CVPR 2021, equation 4); positives from other images of the batch, since all are normal,
    are reported of this method by a secondary note.
    """
    there = cosine(first.predicted, second.projected.detach()[partners])
    back = cosine(second.predicted, first.projected.detach()[partners])
    return -0.5 * (there + back).mean()


def dense_loss(
    first: Projection, second: Projection, first_features: torch.Tensor, second_features: torch.Tensor
) -> torch.Tensor:
    """Symmetric negative cosine of each place of a view and the place of the other that has the most similar features.

    Args:
        first: Of the first view, (B, D, h, w).
        second: Of the second view, likewise.
        first_features: Features of the first view by which places are matched, (B, C, h, w).
        second_features: Those of the second, likewise.
    """

    def one_way(predicted: torch.Tensor, projected: torch.Tensor, match: torch.Tensor) -> torch.Tensor:
        index = match.unsqueeze(1).expand(-1, projected.shape[1], -1)
        return cosine(predicted.flatten(2), projected.detach().flatten(2).gather(2, index)).mean()

    there = one_way(first.predicted, second.projected, match_places(first_features, second_features))
    back = one_way(second.predicted, first.projected, match_places(second_features, first_features))
    return -0.5 * (there + back)


@torch.no_grad()
def match_places(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Find the place of another map with the most similar features (DenseCL; Wang et al., CVPR 2021, section 2.4).

    Args:
        first: Features (B, C, h, w).
        second: Features of the other map, likewise.

    Returns:
        For each place of ``first`` the index of one in ``second``, shape (B, h * w).
    """
    left, right = (F.normalize(features.float().flatten(2), dim=1) for features in (first, second))
    return torch.einsum("bcs,bct->bst", left, right).argmax(dim=2)


def negative_loss(normal: Projection, augmented: Projection, changed: torch.Tensor) -> torch.Tensor:
    """Symmetric cosine of images and their locally augmented counterparts, to be made small.

    The note says that a normal image is contrasted with its counterpart; this form, the mirror image of the loss of
    positives, is this package's choice.

    Args:
        normal: Of the images, (B, D).
        augmented: Of their counterparts, likewise.
        changed: Which of these differ from the images, boolean, (B,).

    Returns:
        The mean over those that differ; 0 where none does.
    """
    there, back = cosine(normal.predicted, augmented.projected), cosine(augmented.predicted, normal.projected)
    return 0.5 * ((there + back) * changed).sum() / changed.sum().clamp(min=1)


def local_loss(normal: Projection, augmented: Projection, masks: torch.Tensor) -> torch.Tensor:
    """Symmetric cosine of each place before and after augmentation: small where it is changed, large elsewhere.

    That tells the network which places are changed, where :func:`negative_loss` tells it which images are. It is this
    package's choice. Places at the border of a change count for neither.

    Args:
        normal: Of the images, (B, D, h, w).
        augmented: Of their augmented counterparts, likewise.
        masks: What is changed, boolean, (B, 1, H, W).

    Returns:
        The mean over places that are changed less the mean over places that are not, each 0 if there are none.
    """
    there, back = cosine(normal.predicted, augmented.projected), cosine(augmented.predicted, normal.projected)
    likeness = 0.5 * (there + back)
    share = average_pool(masks.float(), *likeness.shape[-2:]).squeeze(1)

    def mean_over(chosen: torch.Tensor) -> torch.Tensor:
        return (likeness * chosen).sum() / chosen.sum().clamp(min=1)

    return mean_over(share >= COVERED) - mean_over(share == 0)
