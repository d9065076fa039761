# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A convolutional autoencoder with stacked dilated convolutions at its bottleneck."""

from collections.abc import Sequence

import torch
from torch import nn

from anomalib_ssl.checks import check_sides, check_whole, check_wholes

STRIDE = 8
"""What three poolings reduce images by, and what their sides must be multiples of."""

DILATIONS = (1, 2, 4, 8, 16, 32)
"""Dilation rates of the stacked dilated convolutions, where the map is large enough for them."""

OUTPUT_GAIN = 8.0
"""Factor on the last layer's weights: Adam's steps are of one size for all, and without a factor it takes thousands of
them at a usual rate until the reconstruction has the contrast of an image."""


class SDCAutoencoder(nn.Module):
    """Reconstruct images: three poolings down, stacked dilated convolutions (SDC), three transposed convolutions up.

    For Bauer, Nakajima and Müller, "Self-Supervised Autoencoders for Visual Anomaly Detection", Mathematics 2024, 12
    (24), 3988 (https://arxiv.org/abs/2206.11723). SDC is from Schuster et al., "SDC - Stacked Dilated Convolution",
    CVPR 2019 (https://arxiv.org/abs/1904.03076). The paper's table of layers was not available: number and width of
    layers, batch norm and the sigmoid at the end are this package's choices, after what is known of the network. No
    layer is narrower than the image's content: only the training task keeps the network from copying its input.

    Args:
        image_size: Height and width in pixels of the images to come, multiples of 8; they decide the
            dilation rates: those of 1, 2, 4, 8, 16 and 32 that see more than their own position.
        widths: Channels at full, half and quarter resolution.
        sdc_layers: Number of stacked dilated convolutions, at an eighth of the resolution.
        sdc_width: Channels of each dilation rate.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> autoencoder = SDCAutoencoder((64, 64), widths=(4, 8, 16), sdc_layers=2, sdc_width=4).eval()
        >>> autoencoder(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        widths: Sequence[int] = (32, 64, 128),
        sdc_layers: int = 4,
        sdc_width: int = 64,
    ) -> None:
        super().__init__()
        check_sides("image_size", image_size, STRIDE)
        check_wholes("widths", widths, 1)
        if len(widths) != 3:
            msg = f"widths must be three numbers of channels, got {tuple(widths)}."
            raise ValueError(msg)
        check_whole("sdc_layers", sdc_layers, 1)
        check_whole("sdc_width", sdc_width, 1)
        self.dilations = default_dilations(image_size)
        first, second, third = widths
        self.encoder = nn.ModuleList(
            nn.Sequential(conv_block(inputs, outputs), conv_block(outputs, outputs))
            for inputs, outputs in ((3, first), (first, second), (second, third))
        )
        self.pool = nn.MaxPool2d(2)
        stacked = sdc_width * len(self.dilations)
        self.bottleneck = nn.Sequential(
            *(
                StackedDilatedConvolution(third if layer == 0 else stacked, sdc_width, self.dilations)
                for layer in range(sdc_layers)
            )
        )
        self.up = nn.ModuleList(
            up_block(inputs, outputs) for inputs, outputs in ((stacked, third), (third, second), (second, first))
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(conv_block(width, width), conv_block(width, width)) for width in (third, second, first)
        )
        self.output = nn.Conv2d(first, 3, 1)
        with torch.no_grad():
            # It starts as it would without the factor.
            self.output.weight.div_(OUTPUT_GAIN)
            self.output.bias.div_(OUTPUT_GAIN)  # type: ignore[union-attr]
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct images.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1], H and W multiples of 8.

        Returns:
            Reconstructions (B, 3, H, W), values in (0, 1).

        Raises:
            ValueError: If a side is no multiple of 8.
        """
        return self.decode(self.encode(images)[-1])

    def decode(self, features: torch.Tensor) -> torch.Tensor:
        """Reconstruct images (B, 3, H, W), values in (0, 1), from the encoder's last features (B, C, H / 8, W / 8)."""
        features = self.bottleneck(features)
        for up, block in zip(self.up, self.decoder, strict=True):
            features = block(up(features))
        reconstruction: torch.Tensor = self.output(features)
        return (OUTPUT_GAIN * reconstruction).sigmoid()

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute features of images (B, 3, H, W) at a half, a quarter and an eighth of their resolution.

        Raises:
            ValueError: If a side is no multiple of 8.
        """
        check_sides("images", (images.shape[-2], images.shape[-1]), STRIDE)
        stages = []
        for block in self.encoder:
            images = self.pool(block(images))
            stages.append(images)
        return stages


class StackedDilatedConvolution(nn.Module):
    """Parallel 5 x 5 convolutions of one input at several dilation rates, side by side; batch norm and ReLU.

    Args:
        inputs: Number of input channels.
        width: Output channels of each rate.
        dilations: The rates.
    """

    def __init__(self, inputs: int, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, width, 5, padding=2 * rate, dilation=rate, bias=False) for rate in dilations
        )
        self.norm = nn.Sequential(nn.BatchNorm2d(width * len(dilations)), nn.ReLU(inplace=True))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Convolve features (B, C, h, w) to (B, width * number of rates, h, w)."""
        return self.norm(torch.cat([convolve(features) for convolve in self.convolutions], dim=1))


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 convolution with batch norm of its own, and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def up_block(inputs: int, outputs: int) -> nn.Sequential:
    """A 3 x 3 transposed convolution to twice the resolution, batch norm and ReLU."""
    convolution = nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def default_dilations(image_size: tuple[int, int]) -> tuple[int, ...]:
    """The rates of :data:`DILATIONS` with more than one tap inside the bottleneck's map.

    A 5 x 5 convolution of rate r looks r and 2 r positions away; from no position of a map with sides of r or less is
    there anything.

    Args:
        image_size: Height and width of the image in pixels; the map's are an eighth of them.

    Returns:
        1 to 16 for 256 pixels, 1 to 32 for 512 pixels.
    """
    longest = max(image_size) // STRIDE
    return tuple(rate for rate in DILATIONS if rate == 1 or rate < longest)
