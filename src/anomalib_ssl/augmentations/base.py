# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The contract that every augmentation of this package keeps."""

from abc import ABCMeta, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, TypeVar

import torch

from anomalib_ssl.augmentations.pixels import Paste
from anomalib_ssl.augmentations.sampling import Device, Shape
from anomalib_ssl.checks import check_images

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Parameters: TypeAlias = dict[str, torch.Tensor]
"""Everything random about one call, replayable and storable with ``torch.save``: tensors with a row for each sample.

What all samples share has one row, or several alike, as Kornia makes them for the frames of a video.
"""

A = TypeVar("A", bound="DataclassInstance")


@dataclass(frozen=True)
class Augmentation(metaclass=ABCMeta):
    """A batched random augmentation, split into *sample the parameters* and *apply them*.

    Calling it samples and applies at once. :meth:`apply` is a pure function of its two arguments, so that
    stored parameters replay a call exactly. :class:`~anomalib_ssl.augmentations.KorniaAugmentation` wraps an
    augmentation for ``kornia.augmentation.AugmentationSequential``.

    An augmentation has arguments but no state: no weights, no buffers, no device of its own. So it is a frozen
    dataclass rather than an ``nn.Module``, whose ``apply`` means something else. Its fields hold plain data, lists as
    tuples and paths as strings: :func:`to_mapping` and :func:`from_mapping` lead to a mapping and back.

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


def from_mapping(kind: type[A] | A, value: A | Mapping[str, Any], name: str) -> A:
    """Build an augmentation, or another dataclass, from a mapping of its arguments, as a configuration holds it.

    Args:
        kind: Class of the augmentation, or an augmentation from which arguments that the mapping lacks are taken.
        value: The augmentation itself, or a mapping, for example a ``dict`` or OmegaConf's ``DictConfig``.
        name: What errors call it.

    Returns:
        The augmentation.

    Raises:
        TypeError: If ``value`` is neither, or an argument is of another type.
        ValueError: If ``value`` holds an unknown argument, or one outside its limits.
        FileNotFoundError: If a folder does not exist.

    Example:
        >>> from anomalib_ssl.augmentations import CutPaste
        >>> from_mapping(CutPaste(jitter=0.2), {"area": [0.02, 0.1]}, "patch")
        CutPaste(area=(0.02, 0.1), aspect=((0.3, 1.0), (1.0, 3.3)), jitter=0.2)
    """
    default = kind() if isinstance(kind, type) else kind
    if isinstance(value, type(default)):
        return value
    if not isinstance(value, Mapping):
        msg = f"{name} must be a {type(default).__name__} or a mapping of its arguments, got {value!r}."
        raise TypeError(msg)
    allowed = [field.name for field in fields(default)]
    for key in value:
        if key not in allowed:
            msg = f"{name} must hold arguments of {type(default).__name__}, one of {allowed}, got {key!r}."
            raise ValueError(msg)
    try:
        return replace(default, **as_plain(value))
    except (TypeError, ValueError, FileNotFoundError) as error:
        msg = f"{name}: {error}"
        raise type(error)(msg) from error


def to_mapping(value: "DataclassInstance") -> dict[str, Any]:
    """Give the arguments of an augmentation as plain data, from which :func:`from_mapping` makes an equal one."""
    return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}


def as_plain(value: Any) -> Any:
    """Turn lists into tuples, paths into strings, and numbers of NumPy into Python's."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(map(as_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)
