# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How well normal and augmented images together look like unlabelled ones, as embeddings: no labels needed.

The text of the paper was not available. What is used are quotations and descriptions in its public reviews
(https://openreview.net/forum?id=saj54kqrBj) and the code of TSAP, the same idea for time series (Deforce et al.,
https://arxiv.org/abs/2404.02865).
"""

import torch


def normalize_embeddings(*embeddings: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Centre sets of embeddings together and give them unit total pairwise squared distance (equation 2 of the paper).

    Each embedding has the mean of all N subtracted and is multiplied by ``sqrt(N) / |Z|_F``, with ``Z`` the centred
    embeddings as rows: the factor that a review quotes. So the mean squared norm is 1 and the sum of all squared
    distances ``2 N^2``.

    Args:
        embeddings: Sets of shapes (N_i, D).

    Returns:
        The sets, normalised together.
    """
    together = torch.cat(embeddings)
    centred = together - together.mean(dim=0)
    scale = centred.square().sum(dim=1).mean().clamp(min=1e-12).rsqrt()
    return (centred * scale).split([len(one) for one in embeddings])


def mean_distance(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor) -> torch.Tensor:
    """Mean distance of unlabelled embeddings to the mean normal one and to the mean augmented one.

    Equation 3 of the paper, as the reviews describe it; that the distance is Euclidean, not squared, and the factor of
    one half are in TSAP's code only. All embeddings are normalised together first.

    Args:
        train: Embeddings of normal images, (N, D).
        augmented: Embeddings of images with pastes, (M, D).
        unlabeled: Embeddings of unlabelled images, (K, D).

    Returns:
        The distance, a scalar. Small where augmented images lie where the unlabelled ones do that are not normal.

    Example:
        >>> import torch
        >>> normal, defective = torch.zeros(2, 1), torch.ones(2, 1)
        >>> float(mean_distance(normal, defective, torch.cat([normal, defective])))
        1.0
    """
    train, augmented, unlabeled = normalize_embeddings(train, augmented, unlabeled)
    centers = torch.stack([train.mean(dim=0), augmented.mean(dim=0)])
    return torch.cdist(unlabeled, centers).mean()


def visibility(train: torch.Tensor, augmented: torch.Tensor) -> torch.Tensor:
    """How well augmented images are told from normal ones along the line that joins the two means.

    The means are those of the even rows and what is told are the odd ones, and the other way round.

    Args:
        train: Embeddings of normal images, (N, D) with N of at least 2.
        augmented: Embeddings of augmented images, (M, D) with M of at least 2.

    Returns:
        Area under the ROC curve, a scalar: 1 where all are told, one half where none are, as for a paste that changes
        nothing.

    Example:
        >>> import torch
        >>> normal = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
        >>> float(visibility(normal, normal + 5.0)), float(visibility(normal, normal))
        (1.0, 0.5)
    """
    areas = []
    for fitted, told in ((0, 1), (1, 0)):
        direction = augmented[fitted::2].mean(dim=0) - train[fitted::2].mean(dim=0)
        difference = (augmented[told::2] @ direction).unsqueeze(1) - train[told::2] @ direction
        areas.append(0.5 * (1 + difference.sign().mean()))
    return torch.stack(areas).mean()
