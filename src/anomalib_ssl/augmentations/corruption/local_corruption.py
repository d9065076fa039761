# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Local corruption: regions of irregular shape, blended with foreign or deformed content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from anomalib_ssl.augmentations.base import Augmentation, Parameters, on_device
from anomalib_ssl.augmentations.corruption.blending import blend
from anomalib_ssl.augmentations.corruption.fields import displaced_coordinates, sample_displacement
from anomalib_ssl.augmentations.corruption.fills import (
    FILLS,
    DeformFill,
    Fill,
    FlatFill,
    ImageFill,
    NoiseFill,
    TextureFill,
)
from anomalib_ssl.augmentations.corruption.shapes import SHAPES, region_level, sample_regions
from anomalib_ssl.augmentations.corruption.textures import find_textures
from anomalib_ssl.augmentations.corruption.weights import feathered, fit_area, in_pixels
from anomalib_ssl.augmentations.pixels import cached_blocks, check_samples, from_unit, to_unit
from anomalib_ssl.augmentations.sampling import Device, Shape, host_generator, uniform
from anomalib_ssl.checks import check_choices, check_number, check_range, check_whole_range

_HOST = ("area", "fill", "order", "outline", "regions")
"""Parameters that live on the host by design: they decide what is computed, known without asking the device."""

_SHARED = ("area", "order")
"""Parameters with one row for the whole batch."""

_CACHED_PIXELS = 2**17
"""Pixels that a CPU corrupts at once: the intermediate planes of so many stay in its caches."""


@dataclass(frozen=True)
class LocalCorruption(Augmentation):
    """Corrupt one to three irregular regions of an image: the input of an autoencoder that is to restore the image.

    Training inputs that are partly distorted by structured noise are the idea of Bauer, Nakajima and Müller,
    "Self-Supervised Training with Autoencoders for Visual Anomaly Detection" (https://arxiv.org/abs/2206.11723); a
    follow-up describes such corruptions by their shape, texture and opacity (https://arxiv.org/abs/2511.07233). All
    kinds of shapes and fills, all ranges and all distributions are this package's choice.

    *Shape.* Regions are ellipses, closed smooth curves (``blob``) or thin bent strokes, with coordinates displaced by a
    smoothed random field. Where their union is outside the limits of ``area``, it is grown or shrunk evenly until it
    keeps them. The edge is feathered on its inner side; the mask is every pixel with a weight, at least 0.25.

    *Fill.* ``texture`` is a colour-jittered crop of an external image; ``image`` another place of the same image or of
    another image of the batch; ``deform`` the image's own content, elastically deformed; ``flat`` one colour with
    slight noise; ``noise`` smooth coloured noise. In a texture that looks the same everywhere, ``image`` and ``deform``
    can be hard to see although values change: give them less weight there.

    *Opacity.* The result is ``(1 - a * m) * image + a * m * fill`` with opacity ``a`` and weights ``m``. A corruption
    that nobody can see would teach the opposite of what it should. So where the mean absolute change inside the mask
    would be below ``min_change``, the opacity is raised, into what is left of [0, 1] above the least that suffices; and
    where the fill is too similar even then, it is replaced by a flat colour at least 0.2 away from the region's mean in
    each channel. Changes are measured before rounding to uint8.

    Args:
        p: Probability that an image is corrupted; the others stay as they are, with an empty mask.
        fills: Names of the fills, drawn with equal chance, or their weights by name. Defaults to all, ``texture`` only
            with ``textures``.
        textures: Folder of images, searched with its subfolders, for example the Describable Textures Dataset. Of more
            than 512 images, 512 are used. They are read once per process and kept on the device.
        shapes: Kinds of regions: ``ellipse``, ``blob`` and ``stroke``, drawn with equal chance.
        regions: Smallest and largest number of regions per image.
        axes: Smallest and largest semi-axis of ellipses and blobs, as a share of the image's shorter side.
        displacement: Smallest and largest amplitude of elastic displacements, likewise; amplitudes are two standard
            deviations.
        area: Smallest and largest share of the image that is corrupted, always a pixel at least.
        feather: Smallest and largest width of the blended edge in pixels.
        reference_size: Shorter image side in pixels to which ``feather`` refers; other images scale it. None takes it
            as it is.
        opacity: Smallest and largest opacity before it is raised.
        min_change: Least mean absolute change inside the mask, for values in [0, 1].

    Raises:
        ValueError: If an argument is outside its limits, or at the first image with a side of less than 16 pixels.
        FileNotFoundError: If ``textures`` is not a folder with images.

    Example:
        >>> import torch
        >>> images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        >>> corrupt = LocalCorruption(p=1.0, area=(0.01, 0.2))
        >>> parameters = corrupt.sample(images.shape, generator=torch.Generator().manual_seed(0))
        >>> corrupted, masks = corrupt.apply(images, parameters)
        >>> torch.equal(torch.where(masks, images, corrupted), images)
        True
        >>> share = masks.float().mean(dim=(1, 2, 3))
        >>> (0.01 <= share).all().item(), (share <= 0.2).all().item()
        (True, True)
    """

    p: float = 0.9
    fills: Sequence[str] | Mapping[str, float] | None = None
    textures: Path | str | None = None
    shapes: Sequence[str] = SHAPES
    regions: tuple[int, int] = (1, 3)
    axes: tuple[float, float] = (0.03, 0.2)
    displacement: tuple[float, float] = (0.02, 0.08)
    area: tuple[float, float] = (0.002, 0.25)
    feather: tuple[float, float] = (0.0, 3.0)
    reference_size: float | None = 256
    opacity: tuple[float, float] = (0.2, 1.0)
    min_change: float = 0.02

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_number("p", self.p, 0, 1)
        if self.textures is not None:
            find_textures(self.textures)
        _ = self.fill_weights
        check_choices("shapes", self.shapes, SHAPES)
        check_whole_range("regions", self.regions, 1, 16)
        check_range("axes", self.axes, 0.005, 0.5)
        check_range("displacement", self.displacement, 0, 0.2)
        check_range("area", self.area, 0, 1)
        check_range("feather", self.feather, 0)
        if self.reference_size is not None:
            check_number("reference_size", self.reference_size, 1)
        check_range("opacity", self.opacity, 0.01, 1)
        check_number("min_change", self.min_change, 0, 0.05)

    @property
    def fill_weights(self) -> dict[str, float]:
        """Probabilities of the fills in use, by name.

        Raises:
            ValueError: If ``fills`` does not fit.
        """
        fills = self.fills
        if fills is None:
            fills = [name for name in FILLS if name != "texture" or self.textures is not None]
        check_choices("fills", tuple(fills) if isinstance(fills, Mapping) else fills, FILLS)
        weights = dict(fills) if isinstance(fills, Mapping) else dict.fromkeys(fills, 1.0)
        for name, weight in weights.items():
            check_number(f"fills[{name!r}]", weight, 0)
        used = {name: weights[name] for name in FILLS if weights.get(name, 0) > 0}
        if not used:
            msg = f"fills must give a weight to at least one of {sorted(FILLS)}, got {self.fills!r}."
            raise ValueError(msg)
        if "texture" in used and self.textures is None:
            msg = "fills: 'texture' needs a folder of images, textures is None."
            raise ValueError(msg)
        total = sum(used.values())
        return {name: weight / total for name, weight in used.items()}

    def sample(self, shape: Shape, device: Device = None, generator: torch.Generator | None = None) -> Parameters:
        """Draw regions, fills and opacities.

        Returns:
            ``corrupted`` (B,), boolean; ``opacity`` (B,), before it is raised; ``feather`` (B,) in pixels; ``fill``
            (B,) on the host, an index into ``("texture", "image", "deform", "flat", "noise")``; ``color`` (B, C)
            of fills; the outlines (B, K) of up to K regions; what each fill in use needs; and the limits ``min_change``
            (B,) and ``area`` (1, 2), the latter on the host.

        Raises:
            ValueError: If a side of the images is less than 16 pixels.
        """
        if min(shape[-2:]) < 16:
            msg = f"images must have sides of at least 16 pixels, got {tuple(shape[-2:])}."
            raise ValueError(msg)
        batch = shape[0]
        chance, opacity, feather, gray, saturation = uniform(0, 1, (5, batch), device, generator)
        color = uniform(0, 1, (shape[1], batch), device, generator)
        scale = 1.0 if self.reference_size is None else min(shape[-2:]) / self.reference_size
        field = sample_displacement(shape, self.displacement, device, generator)
        weights, host = self.fill_weights, host_generator(generator)
        parameters = {
            "corrupted": chance < self.p,
            "opacity": opacity * (self.opacity[1] - self.opacity[0]) + self.opacity[0],
            "feather": (feather * (self.feather[1] - self.feather[0]) + self.feather[0]) * scale,
            # Less saturated than the corners of the colour cube, as things in photographs are.
            "color": torch.lerp(gray.expand_as(color), color, saturation).T.contiguous(),
            "min_change": torch.full((batch,), self.min_change, device=device),
            "area": torch.tensor([self.area], dtype=torch.float64, device="cpu"),
            "fill": _draw_fills(weights, batch, host),
            **sample_regions(shape, self.shapes, self.regions, self.axes, device, generator, host),
            **{f"outline_{name}": value for name, value in field.items()},
        }
        for name in weights:
            parameters |= self._fill(name).sample(shape, device, generator)
        return parameters

    def apply(self, images: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """Corrupt ``images`` (B, C, H, W); the masks (B, 1, H, W) show the corrupted pixels."""
        check_samples(parameters["fill"], images)
        parameters = on_device(parameters, images.device, _HOST)
        batch, (height, width) = images.shape[0], images.shape[-2:]
        result = torch.empty_like(images)
        masks = torch.empty(batch, 1, height, width, dtype=torch.bool, device=images.device)
        for block in cached_blocks(images, height * width, _CACHED_PIXELS):
            own = {name: value if name in _SHARED else value[block] for name, value in parameters.items()}
            weights = corruption_weights(own, height, width)
            # Planes of one colour each are what the arithmetic is fast on.
            clean = to_unit(images[block].contiguous())
            fills = self._make_fills(images, parameters, block)
            changed = blend(clean, fills, weights, own["opacity"], own["color"], own["min_change"])
            masks[block] = weights > 0
            result[block] = torch.where(masks[block], from_unit(changed, images.dtype), images[block])
        return result, masks

    def apply_to_masks(self, masks: torch.Tensor, parameters: Parameters) -> torch.Tensor:
        """Add the pixels that :meth:`apply` writes to anomaly masks (B, C, H, W)."""
        check_samples(parameters["fill"], masks)
        weights = corruption_weights(on_device(parameters, masks.device, _HOST), *masks.shape[-2:])
        return masks.maximum((weights > 0).to(masks.dtype))

    def _make_fills(self, images: torch.Tensor, parameters: Parameters, block: slice) -> torch.Tensor:
        """Compute fills in [0, 1] for a block of images (B, C, H, W), each kind for the samples that use it."""
        drawn = parameters["fill"][block]
        dtype = torch.promote_types(images.dtype, torch.float32)
        result = torch.empty(len(drawn), *images.shape[1:], dtype=dtype, device=images.device)
        for number, name in enumerate(FILLS):
            places = (drawn == number).nonzero().flatten()
            if len(places):
                rows = (places + block.start).to(images.device, non_blocking=True)
                fills = self._fill(name).make(images, rows, parameters)
                result[places.to(images.device, non_blocking=True)] = fills.to(dtype)
        return result

    def _fill(self, name: str) -> Fill:
        if name == "texture":
            if self.textures is None:
                msg = "textures must name the folder of images that the parameters refer to, got None."
                raise ValueError(msg)
            return TextureFill(str(self.textures))
        if name == "image":
            return ImageFill()
        if name == "deform":
            return DeformFill(self.displacement)
        return FlatFill() if name == "flat" else NoiseFill()


def corruption_weights(parameters: Parameters, height: int, width: int) -> torch.Tensor:
    """Work out how strongly each pixel takes part in a corruption, whatever the image.

    Args:
        parameters: What :meth:`LocalCorruption.sample` returned.
        height: Height of the images in pixels.
        width: Width of the images in pixels.

    Returns:
        Weights (B, 1, H, W): 0 outside the regions, up to 1 inside.
    """
    field = {name: parameters[f"outline_{name}"] for name in ("knots", "sigma", "amplitude")}
    level = in_pixels(region_level(parameters, *displaced_coordinates(field, height, width)))
    # Half of the feathered edge lies outside the outline.
    level = level + (parameters["feather"] / 2).view(-1, 1, 1)
    smallest, largest = parameters["area"][0].tolist()
    weights = feathered(fit_area(level, (smallest, largest)), parameters["feather"])
    return weights * parameters["corrupted"].view(-1, 1, 1, 1)


def _draw_fills(weights: Mapping[str, float], batch: int, host: torch.Generator | None) -> torch.Tensor:
    """Draw indices into ``FILLS``, shape (B,), on the host."""
    numbers = torch.tensor([FILLS.index(name) for name in weights], device="cpu")
    # The last bound is left out: whatever exceeds the others is of the last fill.
    bounds = torch.tensor(list(weights.values()), device="cpu").cumsum(0)[:-1]
    return numbers[torch.bucketize(uniform(0, 1, batch, "cpu", host), bounds, right=True)]
