# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Natural-looking defects: patches of another image, resized and blended in."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters
from anomalib_ssl.augmentations.blended_patch.blending import BLENDS, GRADIENTS, blend_windows
from anomalib_ssl.augmentations.blended_patch.geometry import by_size, patches_of, place, source_of, window_of
from anomalib_ssl.augmentations.blended_patch.objects import area_sums, object_masks
from anomalib_ssl.augmentations.blended_patch.outlines import OUTLINES, outline_level
from anomalib_ssl.augmentations.corruption.shapes import sample_waves
from anomalib_ssl.augmentations.pixels import (
    check_samples,
    from_unit,
    full_masks,
    read_between,
    read_window,
    to_unit,
    writable_copy,
    write_window,
)
from anomalib_ssl.augmentations.sampling import Device, Shape, host_generator, integers, uniform
from anomalib_ssl.checks import check_choice, check_choices, check_number, check_range, check_whole

SOURCES = ("other", "same")
"""Whence patches come: from another image of the batch, or from the same image."""

TRIES = 128
"""Places that are drawn for each patch; the first that lies on the object is taken."""

SCALE = 0.1
"""Scale of the gamma distribution of sides, as a share of the image's: theirs is 0.05 for half of a side."""

RESIZE_DEVIATION = 0.5
"""Standard deviation of the factor by which patches are resized, before it is limited."""


@dataclass(frozen=True)
class BlendedPatch(Augmentation):
    """Blend patches of another image into each image: the synthetic defects of NSA.

    Schlüter, Tan, Hou and Kainz, "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization",
    ECCV 2022 (https://arxiv.org/abs/2109.15222); :func:`logistic_labels` makes their soft labels. From the authors'
    code: the number of patches, the distributions of sides and of the resizing, the object mask and Poisson blending,
    for textures with mixed gradients. This package's choices: outlines other than rectangles, soft and hard blending,
    the same image as source; that sources lie in the image as a whole, and each patch has one of its own; how mixed
    gradients are mixed; that the object is asked to cover source and target each by itself, where they ask for an
    overlap of both; that what is background in source and target stays inside a patch; that a patch is left out where
    none of 128 places does; and no ``shrink``.

    A side is ``low + Gamma(2, 0.1)``, limited to ``high``, as a share of the image's, for height and width alike. The
    patch is then resized by a normal factor of mean 1 and deviation 0.5, limited to ``resize`` and to ``shrink`` times
    the same sides.

    Args:
        patches: Most patches per image. The first is always tried, each further one with chance 1/2.
        height: Smallest and largest height of a patch, as a share of the image's.
        width: Smallest and largest width, likewise.
        resize: Smallest and largest factor by which a patch is resized.
        outlines: Kinds of outlines, drawn with equal chance: ``rectangle``, ``ellipse`` and ``blob``.
        source: Whence patches come: ``other`` for another image of the batch, or ``same``. A batch of one image has no
            other.
        blend: ``poisson``, ``soft`` or ``hard``; see :func:`blend_windows`.
        gradients: ``source``, or ``mixed`` for textures; for Poisson blending.
        background: Grey level of a plain background in [0, 1], or none: then patches may lie anywhere.
        threshold: Difference from it from which on a pixel belongs to the object.
        coverage: Least share of the patch that the object covers where it is taken from.
        overlap: Least share that it covers where the patch is put.
        shrink: Limits of a patch's sides after resizing as a share of those before. In the authors' code it is 0.5: the
            same number limits half a side before and a whole one after.

    Raises:
        ValueError: If an argument is outside its limits, or at the first image with a side of less than 16 pixels.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> blend = BlendedPatch()
        >>> parameters = blend.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> blended, masks = blend.apply(images, parameters)
        >>> torch.equal(torch.where(masks, images, blended), images)
        True
    """

    patches: int = 3
    height: tuple[float, float] = (0.06, 0.8)
    width: tuple[float, float] = (0.06, 0.8)
    resize: tuple[float, float] = (0.7, 1.3)
    outlines: Sequence[str] = ("rectangle",)
    source: str = "other"
    blend: str = "poisson"
    gradients: str = "source"
    background: float | None = None
    threshold: float = 0.08
    coverage: float = 0.5
    overlap: float = 0.25
    shrink: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_whole("patches", self.patches, 1, 16)
        check_range("height", self.height, 0.01, 1)
        check_range("width", self.width, 0.01, 1)
        check_range("resize", self.resize, 0.1, 10)
        check_choices("outlines", self.outlines, OUTLINES)
        check_choice("source", self.source, SOURCES)
        check_choice("blend", self.blend, BLENDS)
        check_choice("gradients", self.gradients, GRADIENTS)
        if self.background is not None:
            check_number("background", self.background, 0, 1)
        check_number("threshold", self.threshold, 0, 1)
        check_number("coverage", self.coverage, 0, 1)
        check_number("overlap", self.overlap, 0, 1)
        check_number("shrink", self.shrink, 0.1, 1)

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw patches and places to try.

        Returns:
            Of N patches per image, shape (B, N) on the host: ``height`` and ``width`` in pixels, ``factor`` of the
            resizing, ``outline``, an index into :data:`OUTLINES`, and ``used``, whether the patch is tried. On the
            device: ``image`` (B, N), how many images further in the batch the source is; ``wave`` and ``phase``
            (B, N, 4) of blobs; ``source`` and ``target`` (B, N, T, 2), places as shares of the room there is.

        Raises:
            ValueError: If a side of the images is less than 16 pixels.
        """
        batch, sides = shape[0], shape[-2:]
        if min(sides) < 16:
            msg = f"images must have sides of at least 16 pixels to be blended, got {tuple(sides)}."
            raise ValueError(msg)
        size = (batch, self.patches)
        host = host_generator(generator)
        low, high = torch.tensor([self.height, self.width], device="cpu").view(2, 2, 1, 1).unbind(1)
        # A gamma distribution of shape 2 is a sum of two exponential ones.
        draws = uniform(0, 1, (2, 2, *size), "cpu", host)
        drawn = torch.minimum(low - SCALE * torch.log1p(-draws).sum(dim=1), high)
        normal = torch.randn(size, device="cpu", generator=host)
        factor = (1 + RESIZE_DEVIATION * normal).clamp_(*self.resize)
        least, most = self.shrink * low / drawn, self.shrink * high / drawn
        factor = factor.minimum(most.amin(dim=0)).maximum(least.amax(dim=0))
        pixels = torch.tensor(sides, device="cpu").view(2, 1, 1)
        height, width = (drawn * factor * pixels).round_().long().clamp_(min=2).minimum(pixels)
        used = uniform(0, 1, size, "cpu", host) < 0.5
        used[:, 0] = True
        kinds = torch.tensor([OUTLINES.index(name) for name in self.outlines], device="cpu")
        wave, phase = sample_waves(size, device, generator)
        places = uniform(0, 1, (2, *size, 1 if self.background is None else TRIES, 2), device, generator)
        further = integers(1, max(batch - 1, 1), size, device, generator)
        return {
            "height": height,
            "width": width,
            "factor": factor,
            "used": used,
            "image": further if self.source == "other" else torch.zeros_like(further),
            "outline": kinds[integers(0, len(self.outlines) - 1, size, "cpu", host)],
            "wave": wave,
            "phase": phase,
            "source": places[0],
            "target": places[1],
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Blend patches into copies of ``images`` (B, C, H, W), one after the other.

        Returns:
            The blended images (B, C, H, W), of the images' data type and memory format, and boolean masks
            (B, 1, H, W) of the pixels inside the patches.
        """
        check_samples(parameters["used"], images)
        # Rounded once, at the end: a patch on a patch sees what was blended before.
        result, masks = writable_copy(to_unit(images)), full_masks(images, False)
        sums = None
        if self.background is not None:
            sums = area_sums(object_masks(to_unit(images), self.background, self.threshold))
        for number in range(parameters["used"].shape[1]):
            for rows, side in by_size(parameters, number):
                patch = patches_of(parameters, number, rows, images.device)
                patch |= place(patch, images.shape, sums, (self.coverage, self.overlap))
                window, there = window_of(patch, side, images.shape), patch["target_image"]
                level = outline_level(patch, *window, self.outlines)
                level = torch.where(patch["found"].view(-1, 1, 1, 1), level, -1.0)
                source = read_between(images.index_select(0, patch["source_image"]), *source_of(patch, *window))
                changed = result.index_select(0, there)
                target = read_window(changed, *window)
                if changed.requires_grad:  # what was read must stay as it was for the backward pass
                    changed = changed.clone()
                blended = blend_windows(target, source, level, self.blend, self.gradients)
                write_window(changed, *window, blended)
                result.index_copy_(0, there, changed)
                inside = masks.index_select(0, there)
                write_window(inside, *window, read_window(inside, *window) | (level > 0))
                masks.index_copy_(0, there, inside)
        return from_unit(result, images.dtype), masks

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Add the pixels that :meth:`apply` writes to anomaly masks (B, C, H, W).

        Raises:
            ValueError: With a ``background``: where the object is, and so the patches, only the images tell.
        """
        if self.background is not None:
            msg = f"background must be None where masks travel without their images, got {self.background}."
            raise ValueError(msg)
        _, written = self.apply(torch.zeros_like(masks[:, :1], dtype=torch.float32), parameters)
        return masks.maximum(written.to(masks.dtype))
