# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The network of SSM: an autoencoder with skip connections whose decoder is told what is hidden."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_whole, check_wholes


class ConditionalAutoencoder(nn.Module):
    """Restore images of which parts are hidden, and the mask of these parts.

    The network of SSM (Huang et al., IEEE TMM 2022, figure 1), in the form of the authors' code: an encoder of the
    masked image, a decoder with skip connections, and a mask attention block before each stage of the decoder and
    before its heads. The mask enters these blocks only. With the default widths there are 33,301,188 parameters.

    Args:
        widths: Channels of the encoder's stages, from fine to coarse; each but the first halves the resolution. At
            least two.
        patch_size: Side in pixels of the patches that images are cut into, their pixels being channels of the first
            stage: 2 leaves a quarter of the positions, and so about a quarter of the time. 1 in the authors' code.

    Attributes:
        stride: What the sides of images must be multiples of.

    Raises:
        ValueError: If there are fewer than two widths, or one is below 1, or ``patch_size`` is neither 1 nor 2.

    Example:
        >>> import torch
        >>> network = ConditionalAutoencoder(widths=(4, 8, 8))
        >>> images, masks = torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 16, 16)
        >>> [tuple(output.shape) for output in network(images, masks)]
        [(2, 3, 16, 16), (2, 1, 16, 16)]
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512, 512), patch_size: int = 1) -> None:
        super().__init__()
        check_wholes("widths", widths, 1, least=2)
        check_whole("patch_size", patch_size, 1, 2)
        fine, coarse = widths[:-1], widths[1:]
        self.patch_size, pixels = patch_size, patch_size**2
        self.stride = patch_size * 2 ** len(coarse)
        self.encoder = nn.ModuleList([encoder_stage(3 * pixels, widths[0], halve=False)])
        self.encoder.extend(
            encoder_stage(before, after, halve=True) for before, after in zip(fine, coarse, strict=True)
        )
        self.decoder = nn.ModuleList(
            DecoderStage(before, after) for before, after in zip(coarse[::-1], fine[::-1], strict=True)
        )
        self.attention = nn.ModuleList(MaskAttention(width) for width in widths[::-1])
        self.image_head = nn.Conv2d(widths[0], 3 * pixels, 3, padding=1)
        self.mask_head = nn.Conv2d(widths[0], pixels, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Restore images and masks.

        Args:
            images: Masked images (B, 3, H, W): values in [0, 1], hidden pixels 0.
            masks: Shape (B, 1, H, W), 1 where pixels are visible and 0 where they are hidden.

        Returns:
            Restored images (B, 3, H, W) and restored masks (B, 1, H, W), both in (-1, 1).
        """
        features = self.features(images, masks)
        image, mask = self.image_head(features), self.mask_head(features)
        return F.pixel_shuffle(image, self.patch_size).tanh(), F.pixel_shuffle(mask, self.patch_size).tanh()

    def restore(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Restore masked images (B, 3, H, W) of masks (B, 1, H, W), without the head for masks."""
        return F.pixel_shuffle(self.image_head(self.features(images, masks)), self.patch_size).tanh()

    def features(self, images: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Compute the decoder's last features (B, C, H, W), the mask attended to."""
        skips = self.encode(images)
        features = self.attention[0](skips.pop(), masks)
        for stage, attention in zip(self.decoder, list(self.attention)[1:], strict=True):
            features = attention(stage(features, skips.pop()), masks)
        return features

    def encode(self, images: torch.Tensor, count: int | None = None) -> list[torch.Tensor]:
        """Compute the encoder's stages for images (B, 3, H, W), or the first few: (B, C, h, w) each, fine to coarse."""
        images = F.pixel_unshuffle(images, self.patch_size)
        if self.training:
            images = images.contiguous(memory_format=torch.channels_last)
        stages = []
        for stage in self.encoder[:count]:
            images = stage(images)
            stages.append(images)
        return stages


class MaskAttention(nn.Module):
    """Add to features what the mask tells about them, at visible positions only (Huang et al., figure 1 and code).

    Args:
        channels: Channels of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.residual = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, features: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Attend to masks (B, 1, H, W), which are reduced to the size of the features (B, C, h, w)."""
        masks = F.interpolate(masks, size=features.shape[-2:], mode="nearest").to(features.dtype)
        residual = self.residual(torch.cat([self.norm(features), masks], dim=1))
        return features + masks * residual


class DecoderStage(nn.Module):
    """Double the resolution and merge the encoder's features.

    Args:
        in_channels: Channels of the coarse features.
        out_channels: Channels of the encoder's features and of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.merge = nn.Sequential(
            *convolution(2 * out_channels, out_channels, 3), *convolution(out_channels, out_channels, 3)
        )

    def forward(self, features: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Bring features (B, C, h, w) to the size of ``skip`` (B, C', 2h, 2w)."""
        # The projection sees single pixels: before the enlargement it gives the same at a quarter of the cost.
        enlarged = F.interpolate(self.project(features), scale_factor=2.0, mode="nearest")
        return self.merge(torch.cat([enlarged, skip], dim=1))


def encoder_stage(in_channels: int, out_channels: int, halve: bool) -> nn.Sequential:
    """Build two convolutions, of which the first may halve the resolution."""
    first = convolution(in_channels, out_channels, 4, stride=2) if halve else convolution(in_channels, out_channels, 3)
    return nn.Sequential(*first, *convolution(out_channels, out_channels, 3))


def convolution(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    """Build a padded convolution, batch norm and ReLU."""
    return [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
