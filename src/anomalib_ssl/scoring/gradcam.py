# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""GradCAM of a density of pooled features."""

import torch

from anomalib_ssl.scoring.gaussian import GaussianDensity
from anomalib_ssl.scoring.map_part import MapPart


def gradcam(activations: torch.Tensor, pooled_gradient: torch.Tensor) -> torch.Tensor:
    """GradCAM of a score of globally average-pooled features, without a backward pass.

    Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2 (https://arxiv.org/abs/1610.02391). A score that sees the
    activations through their spatial mean has the same gradient at every position, the pooled feature's divided by the
    number of positions; so the channel weights are known in closed form, also under inference mode.

    Args:
        activations: Shape (B, C, h, w).
        pooled_gradient: Gradient of the score with respect to the spatial mean of the activations, shape (B, C).

    Returns:
        Non-negative maps, shape (B, 1, h, w).
    """
    weights = pooled_gradient / (activations.shape[-2] * activations.shape[-1])
    return torch.einsum("bc,bchw->bhw", weights, activations).relu().unsqueeze(1)


class GradCam(MapPart):
    """GradCAM of a scorer's density, from the activations that are pooled for it.

    Args:
        source: Name of the evidence: activations (B, C, h, w).
        density: The density.
    """

    def __init__(self, source: str, density: GaussianDensity) -> None:
        super().__init__(source)
        # In a list, so that it stays the scorer's alone: a state dict shall not hold it twice.
        self._density = [density]
        self.learns = False

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        """Map activations (B, C, h, w) to what of them raises the score, shape (B, 1, h, w)."""
        self.require_fitted()
        return gradcam(evidence, self._density[0].gradient(evidence.mean(dim=(2, 3))))
