# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Training images kept in memory as uint8."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from anomalib.data import AnomalibDataset, ImageBatch, ImageItem
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import Transform
from torchvision.transforms.v2.functional import to_dtype
from torchvision.tv_tensors import Image

from anomalib_ssl.checks import check_number
from anomalib_ssl.training.images.transforms import compose
from anomalib_ssl.training.refusals import check_depth

GIB = 2**30
GREY_LEVEL = 1 / 255


class NotStoredError(Exception):
    """The training images cannot be kept in memory; the message says why."""


@dataclass(frozen=True)
class ImageMemory:
    """Decoded images, their labels and paths.

    Args:
        images: Images as uint8: one tensor (N, C, H, W), or N tensors (C, H, W) if their sizes differ.
        labels: Whether images are abnormal, on ``device``, or None if that is not known. Shape (N,).
        paths: Path of each image.
        device: Where batches are wanted. The images lie there, or in the host's pinned memory.
        spare: Bytes that may be kept besides, within the limits.
    """

    images: torch.Tensor | list[torch.Tensor]
    labels: torch.Tensor | None
    paths: list[str]
    device: torch.device
    spare: float

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    @property
    def num_bytes(self) -> int:
        """Size of the images in bytes."""
        return sum(image.nbytes for image in self.images)

    @property
    def place(self) -> str:
        """Where the images lie, in words."""
        return f"device memory ({self.device})" if self.images[0].device == self.device else "pinned host memory"

    def batch(self, indices: torch.Tensor, on_device: torch.Tensor, transform: Transform | None) -> ImageBatch:
        """Put a batch together, as anomalib's collation does, but without masks.

        Args:
            indices: Indices of the images, on the host. Shape (B,).
            on_device: The same on ``device``.
            transform: What is still to be done to each image, with random numbers of its own.

        Returns:
            The batch on ``device``: images float32 (B, C, H, W), values in [0, 1] before ``transform``.
        """
        listed = indices.tolist()
        if transform is None and isinstance(self.images, torch.Tensor):
            image = to_dtype(self._select(self.images, indices, on_device), torch.float32, scale=True)
        else:
            # Sizes may differ; anomalib's collation then resizes.
            items = [ImageItem(image=self._transformed(index, transform)) for index in listed]
            collated: Any = ImageBatch.collate(items)
            image = collated.image
        return ImageBatch(
            image=image,
            gt_label=None if self.labels is None else self.labels.index_select(0, on_device),
            image_path=[self.paths[index] for index in listed],
        )

    def _select(self, images: torch.Tensor, indices: torch.Tensor, on_device: torch.Tensor) -> torch.Tensor:
        if images.device == self.device:
            return images.index_select(0, on_device)
        # A new pinned tensor each time: the copy may still be under way when the next batch is drawn.
        pinned = torch.empty(len(indices), *images.shape[1:], dtype=images.dtype, pin_memory=images.is_pinned())
        torch.index_select(images, 0, indices, out=pinned)
        return pinned.to(self.device, non_blocking=True)

    def _transformed(self, index: int, transform: Transform | None) -> torch.Tensor:
        image = self.images[index].to(self.device, non_blocking=True)
        image = Image(to_dtype(image, torch.float32, scale=True))
        return image if transform is None else transform(image)


def store(
    dataset: AnomalibDataset,
    first: list[Any],
    device: torch.device,
    limits: tuple[float, float],
    num_workers: int = 0,
) -> ImageMemory:
    """Decode all images of a dataset and keep them.

    Args:
        dataset: The dataset; its augmentations are left out.
        first: Deterministic transforms, done to the images before they are stored.
        device: Where batches are wanted.
        limits: Most GiB of images on the device, and in the host's pinned memory.
        num_workers: Number of workers that decode.

    Returns:
        The images in memory.

    Raises:
        NotStoredError: If the images exceed both limits, or are no images in [0, 1].
    """
    dataset = copy.copy(dataset)
    dataset.augmentations = compose(first)
    # A generator of its own leaves the run's random numbers alone.
    loader = DataLoader(
        Decoded(Readable(dataset)), batch_size=None, num_workers=num_workers, generator=torch.Generator()
    )
    images: torch.Tensor | list[torch.Tensor] = []
    labels, paths = [], []
    used = 0
    for index, (image, label, path) in enumerate(loader):
        if image is None:
            msg = f"values of {path} leave [0, 1] before the first random augmentation"
            raise NotStoredError(msg)
        used += image.nbytes
        if index == 0:
            # If all images are as large as the first one.
            place = choose_place(image.nbytes * len(dataset), limits, device)
            images = torch.empty(len(dataset), *image.shape, dtype=torch.uint8, pin_memory=_pins(place, device))
        elif isinstance(images, torch.Tensor) and images.shape[1:] != image.shape:
            images = [image.clone() for image in images[:index]]
        if isinstance(images, torch.Tensor):
            images[index] = image
        else:
            choose_place(used, limits, device)
            images.append(image.clone())
        labels.append(label)
        paths.append(path)
    place = choose_place(used, limits, device)
    return ImageMemory(
        images=_put(images, place, device),
        labels=None if None in labels else torch.tensor(labels, device=device),
        paths=paths,
        device=device,
        spare=max(limits) * GIB - used,
    )


def choose_place(num_bytes: int, limits: tuple[float, float], device: torch.device) -> Literal["device", "host"]:
    """Where images shall be kept. For a CPU both places are one, and the larger limit counts.

    Args:
        num_bytes: Size of the images in bytes.
        limits: Most GiB of images on the device, and in the host's pinned memory.
        device: The training device.

    Returns:
        The place.

    Raises:
        NotStoredError: If the images exceed both limits.
    """
    if num_bytes > max(limits) * GIB:
        msg = f"{num_bytes / GIB:.2f} GiB or more exceed memory_limits {limits[0]:g} and {limits[1]:g} GiB"
        raise NotStoredError(msg)
    return "device" if device.type == "cpu" or num_bytes <= limits[0] * GIB else "host"


def check_memory_limits(memory_limits: Sequence[float]) -> None:
    """Raise unless ``memory_limits`` is a pair of sizes.

    Raises:
        TypeError: If one is no number.
        ValueError: If it is no pair, or a size is negative or not finite.
    """
    if not isinstance(memory_limits, Sequence) or isinstance(memory_limits, str) or len(memory_limits) != 2:
        msg = f"memory_limits must be two sizes in GiB, of device and pinned host memory, got {memory_limits!r}."
        raise ValueError(msg)
    for limit in memory_limits:
        check_number("memory_limits", limit, 0)


class Readable(Dataset):
    """A dataset that names the image it cannot read.

    Args:
        dataset: The dataset; of anomalib's its table of samples knows the paths.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        """Read an item.

        Raises:
            ValueError: If that fails; the message names the image.
        """
        try:
            return self.dataset[index]
        except Exception as error:
            path = self.dataset.samples.iloc[index]["image_path"] if hasattr(self.dataset, "samples") else index
            msg = f"Training image {path} cannot be read: {error}"
            raise ValueError(msg) from error


def name_unreadable(dataset: Any, error: Exception) -> None:
    """Raise an error that names the first image of a dataset that cannot be read, if there is one.

    Raises:
        ValueError: If there is one.
    """
    readable = Readable(dataset)
    try:
        for index in range(len(readable)):
            readable[index]
    except ValueError as named:
        raise named from error


class Decoded(Dataset):
    """Images of a dataset as uint8, with label and path; None for an image that uint8 does not hold.

    Args:
        dataset: A dataset of items with images in [0, 1].
    """

    def __init__(self, dataset: "Readable") -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[torch.Tensor | None, int | None, str]:
        """Decode an image: uint8 (C, H, W), whether it is abnormal, and its path.

        Raises:
            ValueError: If its file has more than 8 bits a colour.
        """
        item: Any = self.dataset[index]
        check_depth([item.image_path] if item.image_path else ())
        image = item.image.as_subclass(torch.Tensor)
        stored = image.mul(255).round().clamp(0, 255).to(torch.uint8)
        error = (to_dtype(stored, torch.float32, scale=True) - image).abs().max()
        label = None if item.gt_label is None else int(item.gt_label)
        return stored if error <= 0.501 * GREY_LEVEL else None, label, str(item.image_path)


def _pins(place: str, device: torch.device) -> bool:
    return place == "host" and device.type == "cuda"


def _put(
    images: torch.Tensor | Sequence[torch.Tensor], place: str, device: torch.device
) -> torch.Tensor | list[torch.Tensor]:
    if not isinstance(images, torch.Tensor):
        return [_put(image, place, device) for image in images]  # type: ignore[misc]
    if place == "device":
        return images.to(device)
    return images.pin_memory() if _pins(place, device) else images
