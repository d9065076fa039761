# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The two levels of the tuning: a differentiable step of the detector, and the loss seen through it.

With ``w' = w - rate * dL_train(w, a) / dw`` the gradient of the validation loss with respect to the augmentation's
parameters ``a`` has two parts: through the embeddings of augmented images at given ``w'``, and through ``w'`` itself,
which depends on ``a`` because the augmented images it was trained on do. First order leaves the second part out.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.models.st_ssad.validation_loss import validation_loss

Tensors = dict[str, torch.Tensor]
"""Weights or buffers of a module by name."""


@dataclass(frozen=True)
class InnerStep:
    """The detector after a step, as a function of the augmentation's parameters.

    Attributes:
        weights: Its weights; with second order they carry the graph of the step.
        buffers: Its buffers, batch norm's running statistics among them, updated by the step.
        loss: The training loss before the step, a scalar.
        accuracy: Share of the images told apart before the step, a scalar.
    """

    weights: Tensors
    buffers: Tensors
    loss: torch.Tensor
    accuracy: torch.Tensor

    def write_to(self, module: nn.Module) -> None:
        """Make the step the module's own: progress is kept."""
        with torch.no_grad():
            for name, weight in module.named_parameters():
                weight.copy_(self.weights[name])
            for name, buffer in module.named_buffers():
                buffer.copy_(self.buffers[name])


def tell_apart(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Judge a classification of normal and augmented images.

    Args:
        logits: Those of N normal and N augmented images, in this order. Shape (2 N, 2).

    Returns:
        The cross-entropy, and the share of right answers; scalars.
    """
    labels = torch.arange(2, device=logits.device).repeat_interleave(len(logits) // 2)
    return F.cross_entropy(logits, labels), (logits.detach().argmax(dim=1) == labels).float().mean()


def inner_step(
    module: nn.Module,
    normal: torch.Tensor,
    augmented: torch.Tensor,
    rate: float,
    second_order: bool = True,
    weight_decay: float = 0.0,
) -> InnerStep:
    """One step of plain gradient descent of a classifier on normal and augmented images, in training mode.

    The module itself is left as it is. Its loss is the cross-entropy of telling the two apart. Momentum has no part
    here, as it would carry gradients of parameters that are no longer those in use.

    Args:
        module: Maps images to logits (B, 2); must be in training mode.
        normal: Normal images (N, C, H, W).
        augmented: Augmented images (N, C, H, W), with the graph that made them.
        rate: Learning rate.
        second_order: Whether the new weights shall depend on how ``augmented`` was made.
        weight_decay: L2 penalty on all weights.

    Returns:
        The step.
    """
    weights: Tensors = dict(module.named_parameters())
    # Copies, as batch norm updates its statistics in place.
    buffers = {name: buffer.detach().clone() for name, buffer in module.named_buffers()}
    if not second_order:
        augmented = augmented.detach()
    # One batch: batch norm's statistics of separate passes would give the label away.
    loss, accuracy = tell_apart(functional_call(module, (weights, buffers), (torch.cat([normal, augmented]),)))
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order, allow_unused=True)
    stepped = {
        # Of weights that take no part, or that are frozen, nothing changes.
        name: weight if gradient is None else weight - rate * (gradient + weight_decay * weight)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }
    if not second_order:
        stepped = {name: weight.detach() for name, weight in stepped.items()}
    return InnerStep(stepped, buffers, loss.detach(), accuracy)


def outer_loss(
    module: nn.Module,
    step: InnerStep,
    train: torch.Tensor,
    augmented: torch.Tensor,
    unlabeled: torch.Tensor,
    name: str = "mean_distance",
) -> torch.Tensor:
    """Compute the validation loss of a detector after a step, in evaluation mode.

    Batch norm uses the module's running statistics, as they were before the step.

    Args:
        module: Maps images, called with ``embed=True``, to embeddings (B, D); must be in evaluation mode.
        step: Weights to use.
        train: Normal images (N, C, H, W).
        augmented: Augmented images (M, C, H, W), with the graph that made them.
        unlabeled: Unlabelled images (K, C, H, W).
        name: Name of the loss; see :func:`~anomalib_ssl.models.st_ssad.validation_loss.validation_loss`.

    Returns:
        The loss, a scalar that depends on whatever made ``augmented``.
    """
    # Those after the step depend on the augmentation too, in a way that has no gradient.
    buffers = dict(module.named_buffers())

    def embed(images: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = functional_call(module, (step.weights, buffers), (images,), {"embed": True})
        return embeddings

    through_weights = any(weight.grad_fn is not None for weight in step.weights.values())
    if through_weights:
        sizes = [len(train), len(augmented), len(unlabeled)]
        normal, changed, mixed = embed(torch.cat([train, augmented, unlabeled])).split(sizes)
    else:
        with torch.no_grad():
            normal, mixed = embed(torch.cat([train, unlabeled])).split([len(train), len(unlabeled)])
        changed = embed(augmented)
    return validation_loss(normal, changed, mixed, name)
