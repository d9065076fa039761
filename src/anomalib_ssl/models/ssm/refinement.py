# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Progressive mask refinement: hide, restore, compare, uncover what was restored well, and again."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from kornia.filters import gaussian_blur2d
from torch import nn
from torch.nn import functional as F  # noqa: N812

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.losses import gradient_distance_map, gradient_pyramid
from anomalib_ssl.models.ssm.masking import checkerboards, compose, random_partition
from anomalib_ssl.scoring import NotFittedError

Restore: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Restores masked images (B, 3, H, W) of masks (B, 1, H, W), which are 0 where pixels are hidden."""

QUANTILE_BINS = 2**20
"""Resolution of the calibrated threshold, in parts of the range [0, 1] of maps."""


@dataclass(frozen=True)
class RefinementPass:
    """One pass of the refinement, for K scales and n masks each.

    Attributes:
        uncovered: What earlier passes uncovered, (B, 1, H, W): 1 where pixels are no longer hidden, else 0.
        masks: Shape (K, n, B, 1, H, W), 1 where visible.
        restored: Composite restorations (K, B, 3, H, W), each pixel from the restoration in which it was hidden.
        errors: How far each differs from the image (K, B, 1, H, W), in [0, 1].
        anomaly_map: Weighted mean of the errors, smoothed, (B, 1, H, W); with an ``uncovered_error`` other than
            ``zero`` that of an earlier pass at some pixels.
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
    only grow, the optional calibration and ``uncovered_error`` other than ``zero`` are this package's choices.

    Args:
        size: Height H and width W of the images in pixels.
        cells: Sides of cells in pixels, one for each of K scales.
        num_masks: Number of masks n that share the cells of an image. Checkerboards are always two.
        passes: Number of passes T.
        threshold: Pixels whose map is below it count as restored well.
        ratio: Share of such pixels above which a block is uncovered.
        block: Side of a block in pixels. Defaults to the largest cell.
        map_sigma: Standard deviation of the map's Gaussian smoothing in pixels; 0 for none.
        initial_masks: ``random`` partitions, others in each pass, or ``checkerboard`` pairs.
        seed: Seed of the random partitions.
        threshold_quantile: If given, the threshold is this quantile of the first pass' maps of normal training images;
            see :meth:`calibrate`.
        uncovered_error: What the map holds where pixels are uncovered. ``zero``: nothing, but for gradients across
            their border, since they are compared with themselves, as in the authors' code; images uncovered completely
            all score 0. ``kept``: the error of the last pass in which they were hidden. ``lowest``: the lowest error of
            all passes in which they were hidden, also where they still are; refinement then never raises an error.
        chunk: Largest number of masked images that pass through the network at once. Exported graphs have no limit.
        skip: Whether masked images in which nothing is hidden bypass the network, whose answer would not be used.
            Exported graphs restore them.
        precision: ``bfloat16`` lets the network run under autocast; the comparison is in float32 always. Exported
            graphs run in float32.

    Attributes:
        is_fitted: Whether the threshold is known.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> refinement = ProgressiveRefinement((32, 32), cells=(4, 8))
        >>> images = torch.zeros(2, 3, 32, 32)
        >>> first, second = refinement.passes(images, lambda images, masks: images)  # restored perfectly
        >>> first.uncovered.mean(), second.uncovered.mean()
        (tensor(0.), tensor(1.))
    """

    masks: torch.Tensor
    scale_weights: torch.Tensor
    threshold: torch.Tensor

    def __init__(
        self,
        size: tuple[int, int],
        cells: Sequence[int],
        num_masks: int = 3,
        passes: int = 2,
        threshold: float = 0.0157,
        ratio: float = 0.8,
        block: int | None = None,
        map_sigma: float = 7.0,
        initial_masks: Literal["random", "checkerboard"] = "random",
        seed: int = 0,
        threshold_quantile: float | None = None,
        uncovered_error: Literal["zero", "kept", "lowest"] = "zero",
        chunk: int = 16,
        skip: bool = True,
        precision: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        super().__init__()
        check_number("passes", passes, 1)
        check_number("threshold", threshold, 0, 1)
        check_number("ratio", ratio, 0, 1)
        check_number("map_sigma", map_sigma, 0)
        check_choice("initial_masks", initial_masks, ("random", "checkerboard"))
        check_choice("uncovered_error", uncovered_error, ("zero", "kept", "lowest"))
        check_number("chunk", chunk, 1)
        check_choice("precision", precision, ("float32", "bfloat16"))
        if threshold_quantile is not None:
            check_number("threshold_quantile", threshold_quantile, 0, 1)
        self.size = size
        self.num_passes = passes
        self.num_scales = len(cells)
        self.ratio = ratio
        self.block = max(cells) if block is None else block
        if self.block < 1 or any(side % self.block for side in size):
            msg = f"refinement_block must divide the image, got {block} pixels for one of {size[0]} x {size[1]}."
            raise ValueError(msg)
        self.map_sigma = map_sigma
        self.threshold_quantile = threshold_quantile
        self.is_fitted = threshold_quantile is None
        self.uncovered_error = uncovered_error
        self.chunk = chunk
        self.skip = skip
        self.precision = precision
        generator = torch.Generator().manual_seed(seed)

        def draw(cell: int) -> torch.Tensor:
            if initial_masks == "checkerboard":
                return checkerboards(size, cell, device="cpu")
            return random_partition(size, cell, num_masks, device="cpu", generator=generator)

        # Shape (T, K, n, 1, 1, H, W). Not saved: they follow from the arguments.
        masks = torch.stack([torch.stack([draw(cell) for cell in cells]) for _ in range(passes)])
        weights = torch.tensor([float(cell**2) for cell in cells])
        self.register_buffer("masks", masks, persistent=False)
        self.register_buffer("scale_weights", (weights / weights.sum()).view(-1, 1, 1, 1, 1), persistent=False)
        # One that was given is no state, and no checkpoint may overrule it; one to be calibrated is unknown as yet.
        known = threshold if threshold_quantile is None else math.nan
        self.register_buffer("threshold", torch.tensor(known), persistent=threshold_quantile is not None)

    def forward(self, images: torch.Tensor, restore: Restore) -> torch.Tensor:
        """Map anomalies.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            restore: The network.

        Returns:
            Maps (B, 1, H, W), from 0 for perfectly restored to 1.

        Raises:
            NotFittedError: If the threshold is needed and has not been calibrated.
        """
        *_, last = self.passes(images, restore)
        return last.anomaly_map

    def passes(self, images: torch.Tensor, restore: Restore, count: int | None = None) -> Iterator[RefinementPass]:
        """Go through the refinement pass by pass.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            restore: The network.
            count: Number of passes, at most those that there are masks for, which is the default.

        Yields:
            What happened in each pass.

        Raises:
            NotFittedError: If the threshold is needed and has not been calibrated.
            ValueError: If ``count`` is outside its limits, or images are not of the size that masks are for.
        """
        count = self.num_passes if count is None else count
        check_number("count", count, 1, self.num_passes)
        self.check_images(images)
        if count > 1 and not self.is_fitted:
            msg = "The threshold has not been calibrated: train the model or load a trained checkpoint."
            raise NotFittedError(msg)
        images = images.float()
        gradients = [level.repeat(self.num_scales, 1, 1, 1) for level in gradient_pyramid(images)]
        uncovered = torch.zeros_like(images[:, :1])
        error = torch.full_like(uncovered, math.inf)
        for number in range(count):
            masks = self.masks[number].maximum(uncovered)
            restored = compose(images, self._restore(images, masks, restore), masks)
            errors = gradient_distance_map(gradients, gradient_pyramid(restored.flatten(0, 1)))
            errors = errors.unflatten(0, (self.num_scales, -1))
            error = self._combine(error, (self.scale_weights * errors).sum(0), uncovered)
            result = RefinementPass(uncovered, masks, restored, errors, self._smooth(error))
            yield result
            uncovered = uncovered.maximum(self._restored_well(result.anomaly_map))

    @torch.no_grad()
    def calibrate(self, images: Iterable[torch.Tensor], restore: Restore) -> None:
        """Set the threshold to the given quantile of the first pass' maps of normal images; without one do nothing.

        Values are counted in a histogram, so that memory does not grow with the number of images.

        Args:
            images: Normal images in batches (B, 3, H, W), values in [0, 1].
            restore: The network.

        Raises:
            ValueError: If there are no images.
        """
        if self.threshold_quantile is None:
            return
        counts = torch.zeros(QUANTILE_BINS, dtype=torch.long)
        for batch in images:
            (first,) = self.passes(batch, restore, count=1)
            bins = (first.anomaly_map.flatten() * QUANTILE_BINS).long().clamp(0, QUANTILE_BINS - 1)
            counts += torch.bincount(bins.cpu(), minlength=QUANTILE_BINS)
        total = counts.sum()
        if total == 0:
            msg = "threshold_quantile needs at least one training image, got none."
            raise ValueError(msg)
        rank = torch.searchsorted(counts.cumsum(0), (self.threshold_quantile * total).ceil().clamp(min=1))
        # The upper edge of the bin: so large a share of pixels lies below it.
        self.threshold.fill_((float(rank) + 1) / QUANTILE_BINS)
        self.is_fitted = True

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
        needed = (masks.amin(dim=(2, 3, 4)) < 1) if self.skip else masks.new_ones(masks.shape[:2])
        for part in needed.nonzero().split(self.chunk):
            number, image = part.unbind(dim=1)
            chosen = masks[number, image]
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
                restored[number, image] = restore(images[image] * chosen, chosen).float()
        return restored.unflatten(0, shape)

    def _combine(self, before: torch.Tensor, latest: torch.Tensor, uncovered: torch.Tensor) -> torch.Tensor:
        """Combine the error (B, 1, H, W) of a pass with that of the passes before."""
        if self.uncovered_error == "zero":
            return latest
        hidden = torch.minimum(before, latest) if self.uncovered_error == "lowest" else latest
        return torch.where(uncovered == 1, before, hidden)

    def _smooth(self, maps: torch.Tensor) -> torch.Tensor:
        if self.map_sigma == 0:
            return maps
        kernel = 2 * round(4 * self.map_sigma) + 1
        return gaussian_blur2d(maps, (kernel, kernel), (self.map_sigma, self.map_sigma), border_type="replicate")

    def _restored_well(self, maps: torch.Tensor) -> torch.Tensor:
        """Mark the blocks of maps (B, 1, H, W) that are to be uncovered with 1."""
        share = F.avg_pool2d((maps < self.threshold).to(maps.dtype), self.block)
        return F.interpolate((share > self.ratio).to(maps.dtype), scale_factor=float(self.block), mode="nearest")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        # Kept as a plain bool: reading the buffer at every score would synchronise with the device.
        self.is_fitted = bool(self.threshold.isfinite())
