# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Progressive mask refinement: hide, restore, compare, uncover what was restored well, and again."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from kornia.filters import gaussian_blur2d
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_choice, check_whole
from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.models.ssm.masking import checkerboards, compose, random_partition

Restore: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Restores masked images (B, 3, H, W) of masks (B, 1, H, W), which are 0 where pixels are hidden."""

MASK_SEED = 0
"""Seed of the random partitions that images are scored with."""


@dataclass(frozen=True)
class RefinementPass:
    """One pass of the refinement, for K scales and n masks each.

    Attributes:
        uncovered: What earlier passes uncovered, (B, 1, H, W): 1 where pixels are no longer hidden, else 0.
        masks: Shape (K, n, B, 1, H, W), 1 where visible.
        restored: Composite restorations (K, B, 3, H, W), each pixel from the restoration in which it was hidden.
        errors: How far each differs from the image (K, B, 1, H, W), in [0, 1].
        anomaly_map: Weighted mean of the errors, the lowest of this and earlier passes in which a pixel was hidden,
            smoothed, (B, 1, H, W).
    """

    uncovered: torch.Tensor
    masks: torch.Tensor
    restored: torch.Tensor
    errors: torch.Tensor
    anomaly_map: torch.Tensor


class ProgressiveRefinement(nn.Module):
    """Score images by how well their hidden parts are restored, hiding ever less of what is restored well.

    In each pass every pixel that is not yet uncovered is hidden once per cell size; the map is the smoothed difference
    between image and restoration in multi-scale gradient magnitude similarity, in which a scale counts as its squared
    cell size (the code of Huang et al., IEEE TMM 2022; the paper's loop is known from its figure 1 alone). Blocks of
    which enough lies below the threshold are then uncovered for good. With one pass there is no refinement; that is
    RIAD with a network that knows the mask.

    The threshold 0.0157 is that of the authors' code brought to the range [0, 1] of our maps. That uncovered regions
    only grow, and that each pixel has the lowest error of all passes in which it was hidden, so that refinement never
    raises an error, are this package's choices. In the authors' code uncovered pixels are compared with themselves, so
    that images uncovered completely all score 0; it found less (docs/results/ssm.md). Masked images in which nothing is
    hidden bypass the network, whose answer would not be used; exported graphs restore them, all at once.

    Args:
        size: Height H and width W of the images in pixels.
        cells: Sides of cells in pixels, one for each of K scales. The largest is that of a block.
        num_masks: Number of masks n that share the cells of an image. Checkerboards are always two.
        refinement_passes: Number of passes T; 1 for no refinement.
        initial_masks: ``random`` partitions, others in each pass, or ``checkerboard`` pairs.

    Attributes:
        threshold: Pixels whose map is below it count as restored well.
        ratio: Share of such pixels above which a block is uncovered.
        map_sigma: Standard deviation of the map's Gaussian smoothing in pixels; 0 for none.
        chunk: Largest number of masked images that pass through the network at once.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> refinement = ProgressiveRefinement((32, 32), cells=(4, 8), refinement_passes=2)
        >>> images = torch.zeros(2, 3, 32, 32)
        >>> first, second = refinement.passes(images, lambda images, masks: images)  # restored perfectly
        >>> first.uncovered.mean(), second.uncovered.mean()
        (tensor(0.), tensor(1.))
    """

    masks: torch.Tensor
    scale_weights: torch.Tensor
    threshold, ratio, map_sigma, chunk = 0.0157, 0.8, 7.0, 16

    def __init__(
        self,
        size: tuple[int, int],
        cells: Sequence[int],
        num_masks: int = 3,
        refinement_passes: int = 1,
        initial_masks: Literal["random", "checkerboard"] = "random",
    ) -> None:
        super().__init__()
        check_whole("num_masks", num_masks, 2, size[0] * size[1] // max(cells) ** 2)
        check_whole("refinement_passes", refinement_passes, 1)
        check_choice("initial_masks", initial_masks, ("random", "checkerboard"))
        self.size = size
        self.num_passes = refinement_passes
        self.num_scales = len(cells)
        self.block = max(cells)
        generator = torch.Generator().manual_seed(MASK_SEED)

        def draw(cell: int) -> torch.Tensor:
            if initial_masks == "checkerboard":
                return checkerboards(size, cell, device="cpu")
            return random_partition(size, cell, num_masks, device="cpu", generator=generator)

        # Shape (T, K, n, 1, 1, H, W). Not saved: they follow from the arguments.
        masks = torch.stack([torch.stack([draw(cell) for cell in cells]) for _ in range(refinement_passes)])
        weights = torch.tensor([float(cell**2) for cell in cells])
        self.register_buffer("masks", masks, persistent=False)
        self.register_buffer("scale_weights", (weights / weights.sum()).view(-1, 1, 1, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor, restore: Restore) -> torch.Tensor:
        """Map anomalies.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            restore: The network.

        Returns:
            Maps (B, 1, H, W), from 0 for perfectly restored to 1.
        """
        *_, last = self.passes(images, restore)
        return last.anomaly_map

    def passes(self, images: torch.Tensor, restore: Restore) -> Iterator[RefinementPass]:
        """Go through the refinement pass by pass.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            restore: The network.

        Yields:
            What happened in each pass.

        Raises:
            ValueError: If images are not of the size that masks are for.
        """
        self.check_images(images)
        images = images.float()
        gradients = [level.repeat(self.num_scales, 1, 1, 1) for level in gradient_pyramid(images)]
        uncovered = torch.zeros_like(images[:, :1])
        error = torch.full_like(uncovered, math.inf)
        for number in range(self.num_passes):
            masks = self.masks[number].maximum(uncovered)
            restored = compose(images, self._restore(images, masks, restore), masks)
            errors = gradient_distance_map(gradients, gradient_pyramid(restored.flatten(0, 1)))
            errors = errors.unflatten(0, (self.num_scales, -1))
            # Where pixels are uncovered they are compared with themselves.
            error = torch.where(uncovered == 1, error, error.minimum((self.scale_weights * errors).sum(0)))
            result = RefinementPass(uncovered, masks, restored, errors, self._smooth(error))
            yield result
            uncovered = uncovered.maximum(self._restored_well(result.anomaly_map))

    def restored(self, images: torch.Tensor, restore: Restore) -> torch.Tensor:
        """Restore every pixel of images (B, 3, H, W) in [0, 1] where it is hidden, once at each scale.

        That is what the first pass of :meth:`passes` restores, without its comparison.

        Returns:
            Shape (K, B, 3, H, W).
        """
        self.check_images(images)
        images, masks = images.float(), self.masks[0].expand(-1, -1, images.shape[0], -1, -1, -1)
        return compose(images, self._restore(images, masks, restore), masks)

    def check_images(self, images: torch.Tensor) -> None:
        """Raise unless images are of the size that there are masks for.

        Raises:
            ValueError: If ``images`` is not of shape (B, 3, H, W) with the size given at construction.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, *self.size):
            msg = f"images must be of shape (B, 3, {self.size[0]}, {self.size[1]}), got {tuple(images.shape)}."
            raise ValueError(msg)

    def _restore(self, images: torch.Tensor, masks: torch.Tensor, restore: Restore) -> torch.Tensor:
        """Restore images (B, 3, H, W) under masks (K, n, B, 1, H, W): shape (K, n, B, 3, H, W)."""
        shape, masks = masks.shape[:2], masks.flatten(0, 1)
        if torch.compiler.is_exporting():
            return restore((images * masks).flatten(0, 1), masks.flatten(0, 1)).unflatten(0, (*shape, -1))
        restored = images.new_zeros(len(masks), *images.shape)
        hidden = masks.amin(dim=(2, 3, 4)) < 1
        for part in hidden.nonzero().split(self.chunk):
            number, image = part.unbind(dim=1)
            chosen = masks[number, image]
            # Autocast, if it is on, may answer in less.
            restored[number, image] = restore(images[image] * chosen, chosen).float()
        return restored.unflatten(0, shape)

    def _smooth(self, maps: torch.Tensor) -> torch.Tensor:
        if self.map_sigma == 0:
            return maps
        kernel = 2 * round(4 * self.map_sigma) + 1
        return gaussian_blur2d(maps, (kernel, kernel), (self.map_sigma, self.map_sigma), border_type="replicate")

    def _restored_well(self, maps: torch.Tensor) -> torch.Tensor:
        """Mark the blocks of maps (B, 1, H, W) that are to be uncovered with 1."""
        share = F.avg_pool2d((maps < self.threshold).to(maps.dtype), self.block)
        return F.interpolate((share > self.ratio).to(maps.dtype), scale_factor=float(self.block), mode="nearest")
