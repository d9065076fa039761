# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local augmentation: several changes of one rectangle, weighted by how much each changes it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters, on_device, scaled_pixels
from anomalib_ssl.augmentations.local_augmentation.operations import (
    OPERATIONS,
    apply_operation,
    sample_operations,
)
from anomalib_ssl.augmentations.local_augmentation.weights import dynamic_weights
from anomalib_ssl.augmentations.local_augmentation.windows import Window, full_windows, read_windows, thinned_windows
from anomalib_ssl.augmentations.pixels import (
    Paste,
    cached_blocks,
    check_samples,
    from_unit,
    full_masks,
    to_unit,
    writable_copy,
)
from anomalib_ssl.augmentations.sampling import Device, Shape, integers, integers_up_to
from anomalib_ssl.checks import check_choice, check_choices, check_number, check_whole, check_whole_range

_RECTANGLE = ("top", "left", "height", "width")

_HOST = ("order", "sides")
"""Parameters that live on the host by design: an order of operations and sizes of tensors."""

_GLANCE = 8
"""Rows and columns of a rectangle, at most and about, that decide whether it is drawn anew."""

_CACHED_PIXELS = 2**16
"""Pixels of windows that a CPU changes at once: so many, changed in all ways, stay in its caches."""


@dataclass(frozen=True)
class LocalChanges:
    """All the ways in which the rectangles of a batch were changed.

    Attributes:
        index: Positions of the rectangles' windows in the flattened images, shape (B, 1, L).
        inside: Which of these pixels belong to the rectangle, boolean, shape (B, 1, L).
        pixels: The pixels as they are, floats in [0, 1], shape (B, C, L).
        values: The pixels after each of K operations, of the same shape; unspecified outside of the rectangle.
        changes: Mean squared change of the rectangle by each, without gradient, shape (B, K).
        weights: What each counts, shape (B, K).
    """

    index: torch.Tensor
    inside: torch.Tensor
    pixels: torch.Tensor
    values: list[torch.Tensor]
    changes: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class LocalAugmentation(Augmentation):
    """Change one random rectangle of each image, by rotation, colour jitter, permutation or loss of colour.

    Yoa, Lee, Kim and Kim, "Self-Supervised Learning for Anomaly Detection With Dynamic Local Augmentation", IEEE Access
    9, 2021 (https://doi.org/10.1109/ACCESS.2021.3124525). That local augmentations are weighted dynamically, for more
    suitable negative samples, is in its abstract. The four operations, sides of 50 to 128 pixels, and the weights (see
    :func:`dynamic_weights`) are from a secondary note; the paper's text was not available. All other numbers, all
    distributions, and how the weights enter are this package's choices.

    An operation that does nothing to a region gets no weight: loss of colour on grey products, rotation and permutation
    on a plain background. Where none changes the region by ``min_change``, for example in a black background, it is
    moved: the first of ``tries`` places with enough change is taken, judged by a glance at some of its pixels. Images
    in which that fails stay as they are, with an empty mask.

    So what is changed depends on the images, and :meth:`apply` alone knows it: in Kornia's ``AugmentationSequential``
    masks cannot travel with the images.

    Args:
        region: Smallest and largest side of the rectangle in pixels, drawn independently for height and width.
        reference_size: Shorter image side in pixels to which ``region`` refers; other images scale it. None takes it
            as it is.
        operations: ``rotation``, ``jitter``, ``permutation`` and ``grayscale``; those in use.
        weighting: ``dynamic``, or ``static`` for equal weights.
        jitter: Strengths of the jitter's brightness, contrast, saturation (in [0, 1]) and hue (in [0, 0.5]).
        grid: Number of cells that the permutation exchanges along each side, 2 or more.
        min_change: Least mean squared change of the region by one of the operations, for values in [0, 1].
        tries: Number of places drawn for a rectangle.

    Raises:
        ValueError: If an argument is outside its limits, or at the first image for which the rectangle is too small.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> augment = LocalAugmentation()
        >>> parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> changed, masks = augment.apply(images, parameters)
        >>> torch.equal(torch.where(masks, images, changed), images)
        True
        >>> [round(float(total), 4) for total in augment.changes(images, parameters).weights.sum(dim=1)]
        [1.0, 1.0, 1.0, 1.0]
    """

    region: tuple[int, int] = (50, 128)
    reference_size: float | None = 256
    operations: Sequence[str] = OPERATIONS
    weighting: Literal["dynamic", "static"] = "dynamic"
    jitter: tuple[float, float, float, float] = (0.8, 0.8, 0.8, 0.2)
    grid: int = 2
    min_change: float = 1e-3
    tries: int = 10

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_whole_range("region", self.region, 1)
        if self.reference_size is not None:
            check_number("reference_size", self.reference_size, 1)
        check_choices("operations", self.operations, OPERATIONS)
        check_choice("weighting", self.weighting, ("dynamic", "static"))
        if not (isinstance(self.jitter, tuple) and len(self.jitter) == 4):
            msg = f"jitter must hold four strengths, got {self.jitter!r}."
            raise ValueError(msg)
        for strength, most in zip(self.jitter, (1, 1, 1, 0.5), strict=True):
            check_number("jitter", strength, 0, most)
        check_whole("grid", self.grid, 2)
        check_number("min_change", self.min_change, 0, 1)
        check_whole("tries", self.tries, 1)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw rectangles and operations.

        Returns:
            ``top``, ``left``, ``height`` and ``width`` (B, ``tries``) of the rectangles in pixels; on the host
            ``sides`` (1, 2), which no rectangle exceeds; and what
            :func:`~anomalib_ssl.augmentations.local_augmentation.operations.sample_operations` draws.

        Raises:
            ValueError: If a side of the rectangle could be less than ``grid`` pixels.
        """
        low, high = (scaled_pixels(side, shape, self.reference_size) for side in self.region)
        if low < self.grid:
            msg = (
                f"region must be at least grid={self.grid} pixels, got {low} for images of {tuple(shape[-2:])} with "
                f"region={self.region} and reference_size={self.reference_size}."
            )
            raise ValueError(msg)
        size, image = (shape[0], self.tries), (shape[-2], shape[-1])
        sides = [min(high, whole) for whole in image]
        height, width = (integers(min(low, side), side, size, device, generator) for side in sides)
        free = torch.stack([image[0] - height, image[1] - width])
        top, left = integers_up_to(free, generator)
        return {
            "top": top,
            "left": left,
            "height": height,
            "width": width,
            "sides": torch.tensor([sides], device="cpu"),
            **sample_operations(tuple(self.operations), shape[0], self.jitter, self.grid, device, generator),
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Change ``images`` (B, C, H, W); the masks (B, 1, H, W) show the rectangles that were changed."""
        check_samples(parameters["top"], images)
        parameters = on_device(parameters, images.device, _HOST)
        result, masks = writable_copy(images), full_masks(images, False)
        for block, own in self._blocks(images, parameters):
            placed = self._place(images[block], own)
            changes = self._changes(images[block], placed)
            changed = ((changes.changes >= self.min_change) & (changes.weights > 0)).any(dim=1)
            inside = changes.inside & changed.view(-1, 1, 1)
            values = torch.where(inside, _weighted(changes), changes.pixels)
            Paste(changes.index, from_unit(values, images.dtype)).write_(result[block])
            Paste(changes.index, inside).write_(masks[block])
        return result, masks

    def changes(self, images: torch.Tensor, parameters: Parameters) -> LocalChanges:
        """Work out what each operation makes of the rectangles, without combining or writing anything."""
        check_samples(parameters["top"], images)
        parameters = on_device(parameters, images.device, _HOST)
        return self._changes(images, self._place(images, parameters))

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Refuse: which pixels change depends on the images, and :meth:`apply` returns masks of them.

        Raises:
            NotImplementedError: Always.
        """
        del masks, parameters
        msg = "What LocalAugmentation changes depends on the images: take the masks that apply returns beside them."
        raise NotImplementedError(msg)

    @torch.no_grad()
    def _place(self, images: torch.Tensor, parameters: Parameters) -> Parameters:
        """Reduce the rectangles to one an image, the first that changes enough as far as a glance tells."""
        batch, tries = parameters["top"].shape
        if tries == 1:
            return parameters
        sides, size = _sides(parameters), (images.shape[-2], images.shape[-1])
        window = thinned_windows(
            {name: parameters[name] for name in _RECTANGLE}, sides, size, max(max(sides) // _GLANCE, 1)
        )
        pixels = to_unit(read_windows(images, window).contiguous())
        own = {
            name: value if name in _HOST else value.repeat_interleave(tries, dim=0)
            for name, value in parameters.items()
            if name not in _RECTANGLE
        }
        enough = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        for name in self.operations:
            changed = apply_operation(name, pixels, window, own)
            enough |= _mean_square(changed - pixels, window) >= self.min_change
        # The first of equals: where none changes enough, the first place will do as well as any.
        chosen = enough.view(batch, tries).to(torch.uint8).argmax(dim=1, keepdim=True)
        return {**parameters, **{name: parameters[name].gather(1, chosen) for name in _RECTANGLE}}

    def _changes(self, images: torch.Tensor, parameters: Parameters) -> LocalChanges:
        rectangle = {name: parameters[name][:, 0] for name in _RECTANGLE}
        size, sides = (images.shape[-2], images.shape[-1]), _sides(parameters)
        if images.device.type == "cpu":
            # Nothing to wait for: windows no larger than these rectangles.
            sides = int(rectangle["height"].max()), int(rectangle["width"].max())
        window = full_windows(rectangle, sides, size)
        pixels = to_unit(read_windows(images, window).contiguous())
        values = [apply_operation(name, pixels, window, parameters) for name in self.operations]
        with torch.no_grad():
            changes = torch.stack([_mean_square(value - pixels, window) for value in values], dim=1)
        weights = dynamic_weights(changes) if self.weighting == "dynamic" else torch.full_like(changes, 1 / len(values))
        return LocalChanges(window.index(size[1]), window.inside, pixels, values, changes, weights)

    def _blocks(self, images: torch.Tensor, parameters: Parameters) -> Iterator[tuple[slice, Parameters]]:
        """Go through the batch in parts whose intermediate results a CPU keeps in its caches."""
        height, width = _sides(parameters)
        for block in cached_blocks(images, height * width, _CACHED_PIXELS):
            yield block, {name: value if name in _HOST else value[block] for name, value in parameters.items()}


def _sides(parameters: Parameters) -> tuple[int, int]:
    # On the host by design, see LocalAugmentation.sample.
    height, width = parameters["sides"][0].tolist()
    return height, width


def _mean_square(differences: torch.Tensor, window: Window) -> torch.Tensor:
    """Mean of the squares of (B, C, L) over the channels and the rectangles, shape (B,)."""
    squares = differences.square().mul_(window.shares.to(differences.dtype))
    return squares.sum(dim=(1, 2)) / squares.shape[1]


def _weighted(changes: LocalChanges) -> torch.Tensor:
    """Weighted mean (B, C, L) of what the operations give."""
    weights = changes.weights.view(*changes.weights.shape, 1, 1)
    result = changes.values[0] * weights[:, 0]
    for number, values in enumerate(changes.values[1:], start=1):
        result = torch.addcmul(result, values, weights[:, number])
    return result
