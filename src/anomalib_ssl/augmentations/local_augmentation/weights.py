# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""How much each operation counts."""

import torch


def dynamic_weights(changes: torch.Tensor) -> torch.Tensor:
    """Weigh operations by how much they change a region.

    A secondary note on Yoa et al., IEEE Access 9, 2021 (https://doi.org/10.1109/ACCESS.2021.3124525) says that each
    local augmentation is weighted by the mean squared error between the augmented and the original image, normalised
    over the augmentations; division by their sum is this package's reading. A softmax of these errors, of some
    hundredths each, would be nearly uniform.

    Args:
        changes: Mean squared changes of each of K operations, shape (B, K).

    Returns:
        Weights that sum to 1, shape (B, K); equal ones where nothing changes anything.

    Example:
        >>> import torch
        >>> dynamic_weights(torch.tensor([[0.03, 0.01, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]))
        tensor([[0.7500, 0.2500, 0.0000, 0.0000],
                [0.2500, 0.2500, 0.2500, 0.2500]])
    """
    total = changes.sum(dim=1, keepdim=True)
    changing = total > torch.finfo(changes.dtype).tiny
    shares = changes / torch.where(changing, total, 1.0)
    return torch.where(changing, shares, 1 / changes.shape[1])
