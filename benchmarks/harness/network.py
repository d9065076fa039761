# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network's part of a training update, in each precision and memory layout, eager and compiled."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from anomalib_ssl.models.cutpaste.torch_model import CutPasteModel
from harness.measure import Competitor

FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}
PRECISIONS = {"float32": None, "bfloat16 autocast": torch.bfloat16}
WARMUP = 3


def network_steps(backbone: str, views: int, image_size: int, compiling: bool, device: str) -> list[Competitor]:
    """Make one competitor for each combination, the plainest first.

    Args:
        backbone: Name of a timm network.
        views: Images per step.
        image_size: Their side in pixels.
        compiling: Whether compiled networks take part.
        device: Where all is.
    """
    torch.compiler.config.force_disable_caches |= compiling  # compilation shall take its full time
    competitors = []
    for compiled in (False, True)[: 1 + compiling]:
        for precision, dtype in PRECISIONS.items():
            for layout, memory_format in FORMATS.items():
                network = Classifier(CutPasteModel(backbone)).to(device).to(memory_format=memory_format).train()
                images = torch.rand(views, 3, image_size, image_size, device=device).to(memory_format=memory_format)
                forward = torch.compile(network, dynamic=False) if compiled else network
                optimizer = torch.optim.SGD(network.parameters(), lr=0.03, momentum=0.9, weight_decay=3e-5)
                name = f"{precision}, {layout}, {'compiled' if compiled else 'eager'}"
                competitors.append(Competitor(name, partial(step, forward, optimizer, images, dtype), WARMUP))
    return competitors


class Classifier(nn.Module):
    """CutPaste's network as it trains, but taking images as they lie in memory: the backbone reorders them.

    Args:
        model: The network.
    """

    def __init__(self, model: CutPasteModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Classify images (B, 3, H, W) in [0, 1]."""
        backbone = self.model.backbone
        images = (images - backbone.pixel_mean) / backbone.pixel_std
        return self.model.head(backbone.network.forward_features(images).mean(dim=(2, 3)))


def step(
    network: Callable[[torch.Tensor], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    images: torch.Tensor,
    dtype: torch.dtype | None,
) -> None:
    """Run forward, backward and optimiser once."""
    labels = torch.arange(3, device=images.device).repeat_interleave(len(images) // 3)
    with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not None):
        logits = network(images)
    loss = nn.functional.cross_entropy(logits.float(), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
