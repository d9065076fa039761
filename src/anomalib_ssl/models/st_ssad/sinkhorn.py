# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Entropic optimal transport between two sets of points."""

import math

import torch


def sinkhorn_divergence(
    first: torch.Tensor, second: torch.Tensor, blur: float = 0.05, steps: int = 20, iterations: int = 10
) -> torch.Tensor:
    """Debiased optimal transport between two sets of points with equal weights.

    Feydy et al., "Interpolating between Optimal Transport and MMD using Sinkhorn Divergences", AISTATS 2019
    (https://arxiv.org/abs/1810.08278), equation 3, for the cost ``|x - y|^2 / 2``. Near zero blur it is half the
    squared Wasserstein distance.

    Args:
        first: Shape (N, D).
        second: Shape (M, D).
        blur: Distance below which points count as the same; its square is the weight of the entropy.
        steps: Number of steps in which the blur shrinks to this one, from the sets' diameter on and by equal factors.
        iterations: Further steps at the last blur.

    Returns:
        The divergence, a scalar, not negative but for rounding and an unfinished iteration. Its gradient is that of the
        transport at the plan found.

    Example:
        >>> import torch
        >>> points = torch.tensor([[0.0], [1.0]])
        >>> round(float(sinkhorn_divergence(points, points + 2.0)), 3)
        2.0
    """
    apart, within_first, within_second = (
        transport_cost(one, other, blur, steps, iterations)
        for one, other in ((first, second), (first, first), (second, second))
    )
    return apart - 0.5 * within_first - 0.5 * within_second


def transport_cost(
    first: torch.Tensor, second: torch.Tensor, blur: float = 0.05, steps: int = 20, iterations: int = 10
) -> torch.Tensor:
    """Entropic transport cost between two sets of points with equal weights; arguments as above, biased.

    Log-domain Sinkhorn iterations without gradients; then, by the envelope theorem, the gradient with respect to the
    costs is the transport plan.
    """
    cost = 0.5 * (first.unsqueeze(1) - second.unsqueeze(0)).square().sum(dim=2)
    with torch.no_grad():
        fixed = cost.detach()
        log_first, log_second = -math.log(len(first)), -math.log(len(second))
        f, g = fixed.new_zeros(len(first)), fixed.new_zeros(len(second))
        for epsilon in _blurs(_diameter(first, second), blur, steps, iterations).square():
            new_f = -epsilon * ((g - fixed) / epsilon + log_second).logsumexp(dim=1)
            new_g = -epsilon * ((f.unsqueeze(1) - fixed) / epsilon + log_first).logsumexp(dim=0)
            # Both at once and averaged, which keeps the two sides alike.
            f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
        last = blur**2
        # A last step of one side gives the plan its right mass.
        g = -last * ((f.unsqueeze(1) - fixed) / last + log_first).logsumexp(dim=0)
        plan = ((f.unsqueeze(1) + g - fixed) / last + log_first + log_second).exp()
        value = f.mean() + g.mean()
    return value + (plan * (cost - fixed)).sum()


def _diameter(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """An upper bound of the distance between any two points."""
    points = torch.cat([first, second])
    return (points.amax(dim=0) - points.amin(dim=0)).norm()


def _blurs(diameter: torch.Tensor, blur: float, steps: int, iterations: int) -> torch.Tensor:
    # A fixed number of steps: were it to depend on the diameter, the host would wait for the device to read that.
    done = torch.arange(steps + iterations, dtype=diameter.dtype, device=diameter.device)
    remaining = (1 - done / steps).clamp(min=0)
    return blur * (diameter / blur).clamp(min=1) ** remaining
