# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How well normal and augmented images together look like unlabelled ones, as embeddings: no labels needed.

The text of the paper was not available. What is used are quotations and descriptions in its public reviews
(https://openreview.net/forum?id=saj54kqrBj) and the code of TSAP, the same idea for time series (Deforce et al.,
https://arxiv.org/abs/2404.02865).
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.st_ssad.sinkhorn import sinkhorn_divergence


def normalize_embeddings(*embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Centre sets of embeddings together and give them unit total pairwise squared distance (equation 2 of the paper).

    Each embedding has the mean of all N subtracted and is multiplied by ``sqrt(N) / |Z|_F``, with ``Z`` the centred
    embeddings as rows: the factor that a review quotes. So the mean squared norm is 1 and the sum of all squared
    distances ``2 N^2``. Gradients flow through both steps.

    Args:
        embeddings: Sets of shapes (N_i, D).

    Returns:
        The sets, normalised together.
    """
    together = torch.cat(embeddings)
    centred = together - together.mean(dim=0)
    scale = centred.square().sum(dim=1).mean().clamp(min=1e-12).rsqrt()
    return (centred * scale).split([len(one) for one in embeddings])


def mean_distance_loss(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """Mean distance of unlabelled embeddings to the mean normal and the mean augmented one (equation 3 of the paper).

    As the reviews describe it. That the distance is Euclidean, not squared, and the factor of one half are in TSAP's
    code only.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of augmented images, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).

    Returns:
        The loss, a scalar.

    Example:
        >>> import torch
        >>> normal, defective = torch.zeros(2, 1), torch.ones(2, 1)
        >>> float(mean_distance_loss(normal, defective, torch.cat([normal, defective])))
        0.5
    """
    to_train = _distances(unlabeled, train.mean(dim=0, keepdim=True))
    to_augmented = _distances(unlabeled, augmented.mean(dim=0, keepdim=True))
    return 0.5 * (to_train.mean() + to_augmented.mean())


def sinkhorn_loss(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """Optimal transport from normal and augmented embeddings together to unlabelled ones.

    What TSAP uses in place of equation 3, with its blur. It compares distributions rather than means, so it can follow
    several kinds of anomalies, but it expects as large a share of them as there are augmented embeddings.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of augmented images, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).

    Returns:
        The loss, a scalar.
    """
    return sinkhorn_divergence(torch.cat([train, augmented]), unlabeled)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean_distance": mean_distance_loss,
    "sinkhorn": sinkhorn_loss,
}
"""The losses by name; all take normalised embeddings of normal, augmented and unlabelled images."""


def validation_loss(
    train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor, name: str = "mean_distance"
) -> torch.Tensor:
    """Normalise embeddings together, then compare them.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of augmented images, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).
        name: ``mean_distance`` or ``sinkhorn``.

    Returns:
        The loss, a scalar. Small where the augmented images lie where the unlabelled ones that are not normal do.
    """
    return LOSSES[name](*normalize_embeddings(train, augmented, unlabeled))


def dsv_criterion(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """The criterion of DSV, by the same first author, for comparison: it takes no part in tuning.

    Yoo et al., "DSV: An Alignment Validation Loss for Self-supervised Outlier Model Selection",
    https://arxiv.org/abs/2307.06534, as in its public code. With d(A, B) half the mean distance between two sets, it
    is ``D - S / D`` of ``D = d(train + augmented, unlabeled) / d(train, augmented)`` and of ``S``, the spread of the
    unlabelled embeddings along the directions from the mean normal to each augmented one, relative to
    ``d(train, augmented)`` and at most one half. Embeddings are scaled to unit length.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of augmented images, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).

    Returns:
        The criterion, a scalar; smaller is better.
    """
    train, augmented, unlabeled = (F.normalize(one, dim=1) for one in (train, augmented, unlabeled))
    apart = 0.5 * torch.cdist(train, augmented).mean()
    discordance = 0.5 * torch.cdist(torch.cat([train, augmented]), unlabeled).mean() / apart
    center = train.mean(dim=0)
    along = (unlabeled - center) @ F.normalize(augmented - center, dim=1).T
    separability = (along.std(unbiased=False) / apart).clamp(max=0.5)
    return discordance - separability / discordance


def _distances(points: torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    # A point on its centre has no direction: the gradient there is zero rather than NaN.
    return (points - center).square().sum(dim=1).clamp(min=1e-24).sqrt()
