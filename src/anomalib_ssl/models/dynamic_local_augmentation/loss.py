# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the network learns: equal features of normal images, opposite ones of locally augmented images."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_number
from anomalib_ssl.models.dynamic_local_augmentation.heads import Projection


class LossTerms(NamedTuple):
    """The loss and its parts, scalars in float32.

    Attributes:
        total: Their weighted sum.
        global_: Of pooled features of two views, of one image or of two.
        dense: Of matching places of two views of one image.
        negative: Of an image and its locally augmented counterpart.
    """

    total: torch.Tensor
    global_: torch.Tensor
    dense: torch.Tensor
    negative: torch.Tensor


def cosine(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Cosine of the angle between vectors along dimension 1, in float32; no gradient reaches the target."""
    return F.cosine_similarity(predicted.float(), target.detach().float(), dim=1)


def draw_partners(
    batch_size: int,
    probability: float,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Draw, for each image of a batch, the image whose view shall be like its own.

    Args:
        batch_size: Number of images B.
        probability: Probability of another image, uniformly any of the others; else the same.
        device: Device of the result.
        generator: Source of randomness.

    Returns:
        Indices (B,).
    """
    own = torch.arange(batch_size, device=device)
    if batch_size == 1:
        return own
    step = torch.randint(1, batch_size, (batch_size,), device=device, generator=generator)
    other = torch.rand(batch_size, device=device, generator=generator) < probability
    return torch.where(other, (own + step) % batch_size, own)


def global_loss(first: Projection, second: Projection, partners: torch.Tensor) -> torch.Tensor:
    """Symmetric negative cosine of two views, of different images where ``partners`` (B,) says so.

    SimSiam's loss (Chen and He, CVPR 2021, equation 2); positives from other images of the batch, since all are normal,
    are reported of this method by a secondary note.
    """
    return (
        -0.5
        * (
            cosine(first.predicted, second.projected[partners]) + cosine(second.predicted, first.projected[partners])
        ).mean()
    )


@torch.no_grad()
def match_by_feature(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Find the most similar place of another map (DenseCL; Wang et al., CVPR 2021, section 3.3).

    Args:
        first: Features (B, C, h, w).
        second: Features (B, C, h', w').

    Returns:
        For each place of ``first`` the index of one in ``second``, shape (B, h * w).
    """
    with torch.autocast(first.device.type, enabled=False):
        left, right = (F.normalize(features.float().flatten(2), dim=1) for features in (first, second))
        return torch.einsum("bcs,bct->bst", left, right).argmax(dim=2)


def dense_loss(first: Projection, second: Projection, to_second: torch.Tensor, to_first: torch.Tensor) -> torch.Tensor:
    """Symmetric negative cosine of matching places of two maps.

    Args:
        first: Of the first view, (B, D, h, w).
        second: Of the second view, (B, D, h', w').
        to_second: For each place of the first view the matching one of the second, (B, h * w); -1 for none.
        to_first: The other way round, (B, h' * w').

    Returns:
        The mean over all places that have a match; 0 where none has.
    """

    def one_way(predicted: torch.Tensor, projected: torch.Tensor, match: torch.Tensor) -> torch.Tensor:
        found = match >= 0
        index = match.clamp(min=0).unsqueeze(1).expand(-1, projected.shape[1], -1)
        target = projected.flatten(2).gather(2, index)
        return -(cosine(predicted.flatten(2), target) * found).sum() / found.sum().clamp(min=1)

    return 0.5 * (
        one_way(first.predicted, second.projected, to_second) + one_way(second.predicted, first.projected, to_first)
    )


def negative_loss(
    normal: Projection, augmented: Projection, weights: torch.Tensor, margin: float = -1.0
) -> torch.Tensor:
    """Symmetric cosine of images and their locally augmented counterparts, to be made small.

    The note says that a normal image is contrasted with its counterpart; this form, the mirror image of the loss of
    positives, is this package's choice.

    Args:
        normal: Of the images, (B, D).
        augmented: Of K counterparts each, (K * B, D), one batch after the other.
        weights: What each pair counts, (B, K); 0 for images that could not be changed.
        margin: Cosines below it count as it.

    Returns:
        The weighted mean; 0 where all weights are.
    """
    copies = weights.shape[1]
    predicted, projected = (values.repeat(copies, 1) for values in (normal.predicted, normal.projected))
    similarity = 0.5 * (
        cosine(predicted, augmented.projected).clamp(min=margin)
        + cosine(augmented.predicted, projected).clamp(min=margin)
    )
    counted = weights.T.flatten().float()
    # Weights of an image sum to 1 at most: the least sum above 0 is well above this.
    return (similarity * counted).sum() / counted.sum().clamp(min=1e-6)


class ContrastiveLoss(nn.Module):
    """The weighted sum of the three losses.

    ``L = global_weight * L_global + dense_weight * L_dense + negative_weight * L_negative``, with weights of 1, 0.1 and
    0.5 by a secondary note on the paper.

    Args:
        global_weight: Weight of the positives of pooled features.
        dense_weight: Weight of the positives of places; 0 leaves them out.
        negative_weight: Weight of the locally augmented negatives; 0 leaves them out.
        margin: Cosine of a negative pair below which nothing more is gained; -1 for none.

    Raises:
        ValueError: If an argument is outside its limits.
    """

    def __init__(
        self,
        global_weight: float = 1.0,
        dense_weight: float = 0.1,
        negative_weight: float = 0.5,
        margin: float = -1.0,
    ) -> None:
        super().__init__()
        check_number("global_weight", global_weight, 0)
        check_number("dense_weight", dense_weight, 0)
        check_number("negative_weight", negative_weight, 0)
        check_number("negative_margin", margin, -1, 1)
        if global_weight + dense_weight + negative_weight == 0:
            msg = "global_weight, dense_weight and negative_weight must not all be 0."
            raise ValueError(msg)
        self.global_weight = global_weight
        self.dense_weight = dense_weight
        self.negative_weight = negative_weight
        self.margin = margin

    def forward(
        self, global_: torch.Tensor, dense: torch.Tensor | None = None, negative: torch.Tensor | None = None
    ) -> LossTerms:
        """Add up the terms; one that was left out counts as 0."""
        zero = torch.zeros((), device=global_.device)
        dense, negative = (zero if term is None else term for term in (dense, negative))
        total = self.global_weight * global_ + self.dense_weight * dense + self.negative_weight * negative
        return LossTerms(total, global_, dense, negative)
