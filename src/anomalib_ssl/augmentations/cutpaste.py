# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste: a large patch of the image, colour-jittered, pasted elsewhere in the same image."""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from anomalib_ssl.augmentations.base import Parameters, PasteAugmentation
from anomalib_ssl.augmentations.color_jitter import color_jitter, sample_color_jitter
from anomalib_ssl.augmentations.random import integers_up_to, uniform
from anomalib_ssl.augmentations.windows import gather_window, paste_window, window_positions
from anomalib_ssl.checks import check_choice, check_number, check_range


def cut_paste(images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
    """Copy one axis-aligned patch per image to another place.

    Args:
        images: Shape (B, C, H, W), values in [0, 1].
        parameters: Shape (B,) each: ``height``, ``width``, ``source_top``, ``source_left``, ``target_top`` and
            ``target_left`` in pixels; the jitter's strengths (see
            :func:`~anomalib_ssl.augmentations.color_jitter.color_jitter`); and on the host ``window`` (1, 2), a height
            and width that no patch of the batch exceeds.

    Returns:
        The changed images (B, C, H, W) and boolean masks (B, 1, H, W) of the pasted pixels.
    """
    image_height, image_width = images.shape[-2:]
    # On the host by design: sizes of tensors, known without asking the device.
    window_height, window_width = parameters["window"].flatten().tolist()
    patch = {name: parameters[name].to(images.device).unsqueeze(1) for name in _GEOMETRY}

    rows = window_positions(patch["target_top"].squeeze(1), window_height, image_height)
    cols = window_positions(patch["target_left"].squeeze(1), window_width, image_width)
    row_in_patch = rows - patch["target_top"]
    col_in_patch = cols - patch["target_left"]
    row_inside = (row_in_patch >= 0) & (row_in_patch < patch["height"])
    col_inside = (col_in_patch >= 0) & (col_in_patch < patch["width"])
    inside = (row_inside.unsqueeze(2) & col_inside.unsqueeze(1)).unsqueeze(1)

    source_rows = (row_in_patch + patch["source_top"]).clamp(0, image_height - 1)
    source_cols = (col_in_patch + patch["source_left"]).clamp(0, image_width - 1)
    patches = color_jitter(gather_window(images, source_rows, source_cols), parameters, inside)
    return paste_window(images, patches, inside, rows, cols)


_GEOMETRY = ("height", "width", "source_top", "source_left", "target_top", "target_left")


@dataclass(frozen=True)
class CutPaste(PasteAugmentation):
    """Cut a random rectangle, jitter its colours and paste it at another place of the same image.

    Li et al., "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021, section 2.1 and
    appendix A.2 (https://arxiv.org/abs/2104.04015). The paper gives the ranges of area and aspect but names no
    distribution on them: here the area is uniform, and the aspect ratio comes from either interval with equal chance.
    Source and target are uniform over all places where the whole patch fits, independently, and may overlap.

    Args:
        area: Smallest and largest patch area as a share of the image's, in (0, 1].
        aspect: Two intervals of the patch's aspect ratio, width / height.
        aspect_sampling: ``union`` draws uniformly from either interval with equal chance, ``log`` log-uniformly from
            the smallest to the largest bound.
        jitter: Strength of the patch's colour jitter (brightness, contrast, saturation and hue alike), in [0, 0.5].

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> augment = CutPaste(jitter=0.0)
        >>> parameters = augment.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> pasted, masks = augment.apply(images, parameters)
        >>> torch.equal(masks.sum(dim=(1, 2, 3)), parameters["height"] * parameters["width"])
        True
        >>> torch.equal(torch.where(masks, images, pasted), images)
        True
    """

    area: tuple[float, float] = (0.02, 0.15)
    aspect: tuple[tuple[float, float], tuple[float, float]] = ((0.3, 1.0), (1.0, 3.3))
    aspect_sampling: Literal["union", "log"] = "union"
    jitter: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_range("area", self.area, 1e-6, 1)
        if len(self.aspect) != 2:
            msg = f"aspect must hold two intervals of width / height, got {self.aspect!r}."
            raise ValueError(msg)
        for interval in self.aspect:
            check_range("aspect", interval, 1e-3, 1e3)
        check_choice("aspect_sampling", self.aspect_sampling, ("union", "log"))
        check_number("jitter", self.jitter, 0, 0.5)

    def sample(
        self,
        shape: tuple[int, ...] | torch.Size,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> Parameters:
        """Draw patch sizes, places and colour changes; see :func:`cut_paste` for the names.

        Sides are rounded to whole pixels and limited to the image.
        """
        batch, (image_height, image_width) = shape[0], shape[-2:]
        area = uniform(*self.area, batch, device, generator) * (image_height * image_width)
        aspect = self._sample_aspect(batch, device, generator)
        width = (area * aspect).sqrt().round().clamp(1, image_width).long()
        height = (area / aspect).sqrt().round().clamp(1, image_height).long()
        return {
            "height": height,
            "width": width,
            "source_top": integers_up_to(image_height - height, generator),
            "source_left": integers_up_to(image_width - width, generator),
            "target_top": integers_up_to(image_height - height, generator),
            "target_left": integers_up_to(image_width - width, generator),
            "window": torch.tensor([self._largest_patch(image_height, image_width)], device="cpu"),
            **sample_color_jitter(batch, (self.jitter,) * 4, device, generator),
        }

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Paste into ``images`` (B, C, H, W); the masks show the pasted rectangles."""
        return cut_paste(images, parameters)

    def _sample_aspect(
        self, batch: int, device: torch.device | str | None, generator: torch.Generator | None
    ) -> torch.Tensor:
        (low0, high0), (low1, high1) = self.aspect
        if self.aspect_sampling == "log":
            low, high = math.log(min(low0, low1)), math.log(max(high0, high1))
            return uniform(low, high, batch, device, generator).exp()
        first = uniform(low0, high0, batch, device, generator)
        second = uniform(low1, high1, batch, device, generator)
        return torch.where(uniform(0, 1, batch, device, generator) < 0.5, first, second)

    def _largest_patch(self, image_height: int, image_width: int) -> tuple[int, int]:
        largest_area = self.area[1] * image_height * image_width
        bounds = [bound for interval in self.aspect for bound in interval]
        height = math.ceil(math.sqrt(largest_area / min(bounds)))
        width = math.ceil(math.sqrt(largest_area * max(bounds)))
        return min(height, image_height), min(width, image_width)
