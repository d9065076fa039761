# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The contract that every augmentation of this package keeps."""

from abc import ABCMeta, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

import torch

from anomalib_ssl.augmentations.pixels import Paste
from anomalib_ssl.augmentations.sampling import Device, Shape
from anomalib_ssl.checks import check_images
from anomalib_ssl.plain_data import as_plain

Parameters: TypeAlias = dict[str, torch.Tensor]
"""Everything random about one call, replayable and storable with ``torch.save``: tensors with a row for each sample.

What all samples share has one row, or several alike, as Kornia makes them for the frames of a video.
"""


@dataclass(frozen=True)
class Augmentation(metaclass=ABCMeta):
    """A batched random augmentation, split into *sample the parameters* and *apply them*.

    Calling it samples and applies at once. :meth:`apply` is a pure function of its two arguments, so that
    stored parameters replay a call exactly. :class:`~anomalib_ssl.augmentations.KorniaAugmentation` wraps an
    augmentation for ``kornia.augmentation.AugmentationSequential``.

    An augmentation has arguments but no state: no weights, no buffers, no device of its own. So it is a frozen
    dataclass rather than an ``nn.Module``, whose ``apply`` means something else. Its fields hold plain data, lists as
    tuples and paths as strings: :mod:`~anomalib_ssl.plain_data` leads to a mapping and back.

    Attributes:
        moves: Whether content is moved, so that boxes and keypoints of an image are no longer true of it.
    """

    moves: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Make the arguments plain data; augmentations check them afterwards."""
        for field in fields(self):
            object.__setattr__(self, field.name, as_plain(getattr(self, field.name)))

    @abstractmethod
    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw the parameters of one call.

        Args:
            shape: Shape (B, C, H, W) of the images to be augmented.
            device: Device of the images. Defaults to torch's default device.
            generator: Source of randomness on ``device``. Defaults to torch's global generator.

        Returns:
            The parameters, to be handed to :meth:`apply`.
        """

    @abstractmethod
    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Augment images with given parameters.

        Args:
            images: Shape (B, C, H, W), floating point with values in [0, 1], or uint8.
            parameters: What :meth:`sample` returned for this shape.

        Returns:
            The augmented images (B, C, H, W), of the images' data type and memory format, and boolean masks
            (B, 1, H, W) of the pixels that were written.
        """

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Carry existing anomaly masks (B, 1, H, W) through the augmentation; unchanged unless overridden."""
        del parameters
        return masks

    def __call__(
        self,
        images: torch.Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample parameters for ``images`` (B, C, H, W), floats in [0, 1] or uint8, and apply them.

        Returns:
            The augmented images (B, C, H, W), of the images' data type and memory format, and boolean masks
            (B, 1, H, W) of the pixels that were written.

        Raises:
            TypeError: If ``images`` is neither a floating point nor a uint8 tensor.
            ValueError: If ``images`` is not of shape (B, C, H, W).
        """
        check_images(images)
        return self.apply(images, self.sample(images.shape, images.device, generator))


class PasteAugmentation(Augmentation):
    """An augmentation that plants an anomaly: whatever it writes is added to existing anomaly masks."""

    @abstractmethod
    def paste(self, images: torch.Tensor, parameters: Parameters) -> Paste:
        """Work out the pixels to be written into ``images`` (B, C, H, W), without writing them."""

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste into copies of ``images`` (B, C, H, W); the masks (B, 1, H, W) show the pasted pixels."""
        return self.paste(images, parameters).onto(images)

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Add the pixels that :meth:`apply` writes to anomaly masks (B, C, H, W)."""
        blank = torch.zeros_like(masks[:, :1], dtype=torch.float32)
        _, written = self.apply(blank, parameters)
        return masks.maximum(written.to(masks.dtype))


def scaled_pixels(pixels: int, shape: Shape, reference_size: float | None) -> int:
    """Convert a size in pixels of a reference image to pixels of images of another size.

    Args:
        pixels: Size in an image whose shorter side is ``reference_size``.
        shape: Shape (B, C, H, W) of the images at hand.
        reference_size: Shorter side of the reference image; none leaves ``pixels`` as it is.

    Returns:
        The rounded size.
    """
    return pixels if reference_size is None else round(pixels * min(shape[-2:]) / reference_size)


def on_device(parameters: Parameters, device: torch.device, host: Collection[str]) -> Parameters:
    """Move parameters to where the images are; Kornia's own, which are not all tensors, are left out.

    Args:
        parameters: What was sampled, and what Kornia has added.
        device: Where the images are.
        host: Names of parameters that stay where they are.
    """
    # Only copies to an accelerator may be read before the host knows that they are done.
    asynchronous = device.type != "cpu"
    return {
        name: value if name in host else value.to(device, non_blocking=asynchronous)
        for name, value in parameters.items()
        if isinstance(value, torch.Tensor)
    }
