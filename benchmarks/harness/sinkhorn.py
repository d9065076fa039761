# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Entropic optimal transport between embeddings, TSAP's criterion in place of ST-SSAD's mean distance."""

import torch

from anomalib_ssl.models.st_ssad.alignment import normalize_embeddings


def sinkhorn(train: torch.Tensor, augmented: torch.Tensor, unlabeled: torch.Tensor, blur: float = 0.05) -> torch.Tensor:
    """Debiased transport from normal and augmented embeddings together to unlabelled ones, all normalised together.

    Feydy et al., AISTATS 2019 (https://arxiv.org/abs/1810.08278), equation 3, for the cost ``|x - y|^2 / 2``.

    Args:
        train: Shape (N, D).
        augmented: Shape (M, D).
        unlabeled: Shape (K, D).
        blur: Distance below which points count as the same.

    Returns:
        The divergence, a scalar.
    """
    train, augmented, unlabeled = normalize_embeddings(train, augmented, unlabeled)
    made = torch.cat([train, augmented])
    apart, within_made, within_unlabeled = (
        transport_cost(one, other, blur) for one, other in ((made, unlabeled), (made, made), (unlabeled, unlabeled))
    )
    return apart - 0.5 * within_made - 0.5 * within_unlabeled


def transport_cost(first: torch.Tensor, second: torch.Tensor, blur: float, steps: int = 20) -> torch.Tensor:
    """Sinkhorn iterations in the log domain while the blur shrinks from the sets' diameter, then ten more."""
    cost = 0.5 * torch.cdist(first, second).square()
    log_first, log_second = (-torch.tensor(float(len(one))).log() for one in (first, second))
    f, g = torch.zeros(len(first)), torch.zeros(len(second))
    diameter = cost.max().mul(2).sqrt().clamp(min=blur)
    shares = (1 - torch.arange(steps + 10) / steps).clamp(min=0)
    for epsilon in (blur * (diameter / blur) ** shares).square():
        new_f = -epsilon * ((g - cost) / epsilon + log_second).logsumexp(dim=1)
        new_g = -epsilon * ((f.unsqueeze(1) - cost) / epsilon + log_first).logsumexp(dim=0)
        f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
    return f.mean() + g.mean()
