# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of NSA: a backbone, and a narrow decoder that says of each pixel whether it was changed."""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_sides
from anomalib_ssl.models.components.backbone import Backbone

STRIDE = 32
"""How much smaller than the image the backbone's feature map is, and what sides must be multiples of."""

SQUEEZED = (256, 128)
"""Channels after each of the two 1 x 1 convolutions between backbone and decoder."""

WIDTHS = (64, 32, 16)
"""Channels of the decoder's stages."""


class NSANetwork(nn.Module):
    """Say of each pixel how likely it was changed: an encoder and a decoder without connections between their stages.

    The network of Schlüter et al., "Natural Synthetic Anomalies", ECCV 2022 (https://arxiv.org/abs/2109.15222), layer
    by layer as in the authors' code: ResNet-18 from scratch, two 1 x 1 convolutions, three transposed residual blocks,
    bilinear interpolation, and a 7 x 7 transposed convolution. The decoder is the same for every backbone; the authors
    have ResNet-18 only.

    Args:
        backbone: Name of a timm network whose last feature map is a 32nd of the image in both directions.

    Raises:
        ValueError: If there is no such network, or its feature map has another size.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> NSANetwork("test_resnet")(torch.rand(2, 3, 64, 96)).shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(self, backbone: str = "resnet18") -> None:
        super().__init__()
        self.backbone = Backbone(backbone)
        _check_stride(self.backbone)
        first, second = SQUEEZED
        self.squeeze = nn.Sequential(
            nn.Conv2d(self.backbone.num_features, first, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 1, bias=False),
            nn.ReLU(inplace=True),
        )
        self.decoder = nn.Sequential(
            *(TransposedBlock(inputs, outputs) for inputs, outputs in zip((second, *WIDTHS[:-1]), WIDTHS, strict=True))
        )
        self.output = nn.ConvTranspose2d(WIDTHS[-1], 1, 7, stride=2, padding=3, output_padding=1, bias=False)
        for module in (*self.squeeze.modules(), *self.decoder.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1], H and W multiples of 32.

        Returns:
            Logits (B, 1, H, W).

        Raises:
            ValueError: If a side is no multiple of 32.
        """
        check_sides("images", (images.shape[-2], images.shape[-1]), STRIDE)
        return self.decode(self.backbone(images))

    def decode(self, features: torch.Tensor) -> torch.Tensor:
        """Compute logits (B, 1, 32 h, 32 w) from the backbone's last feature map (B, C, h, w)."""
        features = self.decoder(self.squeeze(features))
        features = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=True)
        return self.output(features)


class TransposedBlock(nn.Module):
    """A residual block to twice the resolution: two convolutions, beside one of single pixels, the first transposed.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(
            nn.ConvTranspose2d(inputs, outputs, 1, stride=2, output_padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Enlarge features (B, C, h, w) to (B, outputs, 2 h, 2 w)."""
        return F.relu(self.residual(features) + self.shortcut(features))


def _check_stride(backbone: Backbone) -> None:
    stages = list(getattr(backbone.network, "feature_info", []))
    reduction = stages[-1]["reduction"] if stages else None
    if reduction != STRIDE:
        msg = (
            f"backbone must be a network whose last feature map is a {STRIDE}nd of the image in both directions, got "
            f"{backbone.name!r} with {f'one of 1/{reduction}' if reduction else 'no stages'}."
        )
        raise ValueError(msg)
