# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The augmentation that is tuned: unconstrained numbers, their bounded meaning, and the images they make."""

import math
from collections.abc import Mapping
from itertools import product
from typing import NamedTuple

import torch
from torch import nn

from anomalib_ssl.augmentations import Augmentation, Rotation, SoftPatch
from anomalib_ssl.augmentations.soft_patch.soft_patch import KINDS
from anomalib_ssl.checks import check_choice, check_number, check_range

AUGMENTATIONS = (*KINDS, "rotation")
"""Names of the augmentations that can be tuned."""


class Bound(NamedTuple):
    """Smallest and largest value of a parameter, and whether it is tuned on a logarithmic scale."""

    low: float
    high: float
    logarithmic: bool = False

    def value(self, raw: torch.Tensor) -> torch.Tensor:
        """Map an unconstrained number into the bounds; 0 to their middle."""
        share = raw.sigmoid()
        if self.logarithmic:
            return torch.exp(math.log(self.low) + share * math.log(self.high / self.low))
        return self.low + share * (self.high - self.low)

    def raw(self, value: float) -> float:
        """The unconstrained number of a value; that of one close to a bound where it lies on or outside of it."""
        low, high, at = map(math.log, (self.low, self.high, value)) if self.logarithmic else (*self[:2], value)
        share = min(max((at - low) / (high - low), 1e-3), 1 - 1e-3)
        return math.log(share / (1 - share))


class TunableAugmentation(nn.Module):
    """An augmentation with parameters that gradients reach, within bounds.

    The parameters are sigmoids of unconstrained numbers, area and aspect on a logarithmic scale: mid-range at 0, as in
    DSV's public code, whose ranges of area and aspect are the defaults. All else is this package's choice.

    Args:
        name: ``cutdiff``, ``cutout``, ``cutpaste`` or ``rotation``.
        area: Smallest and largest area of a patch as a share of the image's.
        aspect: Smallest and largest width / height of a patch.
        angle: Smallest and largest angle in degrees, of the patch or of the rotation. By default -90 to 90 of a patch,
            after which all repeats itself, and -180 to 180 of a rotation.

    Attributes:
        raw: The unconstrained numbers, one for each parameter.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> augmentation = TunableAugmentation("cutdiff", area=(0.01, 0.04), aspect=(0.5, 2.0))
        >>> {name: round(value, 3) for name, value in augmentation.described().items()}
        {'area': 0.02, 'aspect': 1.0, 'angle': 0.0}
        >>> images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        >>> augmentation(images).requires_grad
        True
    """

    def __init__(
        self,
        name: str = "cutdiff",
        area: tuple[float, float] = (0.02, 0.15),
        aspect: tuple[float, float] = (0.3, 3.3),
        angle: tuple[float, float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("augmentation", name, AUGMENTATIONS)
        rotates = name == "rotation"
        angle = angle or ((-180.0, 180.0) if rotates else (-90.0, 90.0))
        check_range("area", area, 1e-6, 1)
        check_range("aspect", aspect, 1e-3, 1e3)
        check_range("angle", angle, -180, 180)
        for argument, limits in (("area", area), ("aspect", aspect), ("angle", angle)):
            if limits[0] == limits[1]:
                msg = f"{argument} must leave room between the smallest and the largest value, got {limits!r}."
                raise ValueError(msg)
        turn = Bound(math.radians(angle[0]), math.radians(angle[1]))
        self.name = name
        self.bounds: dict[str, Bound] = (
            {"angle": turn} if rotates else {"area": Bound(*area, True), "aspect": Bound(*aspect, True), "angle": turn}
        )
        self.kind: Augmentation = Rotation() if rotates else SoftPatch(name)  # type: ignore[arg-type]
        self.raw = nn.Parameter(torch.zeros(len(self.bounds)))

    def forward(self, images: torch.Tensor, raw: torch.Tensor | None = None) -> torch.Tensor:
        """Augment images, at random places but all with the same parameters.

        Args:
            images: Shape (B, C, H, W), values in [0, 1].
            raw: Unconstrained numbers to use in place of the module's own.

        Returns:
            Augmented images (B, C, H, W), which depend on the parameters.
        """
        parameters = self.kind.sample(images.shape, images.device)
        tuned = {name: value.expand(len(images)) for name, value in self.values(raw).items()}
        return self.kind.apply(images, parameters | tuned)[0]

    def normal(self, images: torch.Tensor) -> torch.Tensor:
        """Treat images (B, C, H, W) as :meth:`forward` does but for the augmentation itself."""
        return Rotation(0.0)(images)[0] if self.name == "rotation" else images

    def values(self, raw: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        """The parameters as scalars by name, angles in radians."""
        numbers = self.raw if raw is None else raw
        return {name: bound.value(number) for (name, bound), number in zip(self.bounds.items(), numbers, strict=True)}

    @torch.no_grad()
    def shown(self) -> dict[str, torch.Tensor]:
        """The parameters as scalars by name, angles in degrees, without gradients."""
        values = self.values()
        return {**values, "angle": values["angle"].rad2deg()}

    def in_words(self) -> str:
        """The parameters as :meth:`described`, in one line."""
        return ", ".join(f"{name} {value:.4g}" for name, value in self.described().items())

    @torch.no_grad()
    def described(self, raw: torch.Tensor | None = None) -> dict[str, float]:
        """The parameters as numbers by name, angles in degrees, a patch by its longer side: ``aspect`` at least 1."""
        return canonical({name: float(value) for name, value in self.values(raw).items()})

    @torch.no_grad()
    def set(self, values: Mapping[str, float]) -> torch.Tensor:
        """Set parameters by name, angles in degrees.

        Returns:
            All unconstrained numbers, a copy.

        Raises:
            TypeError: If ``values`` is no mapping, or a value no number.
            ValueError: If there is no parameter of a name, or a value is outside its bounds.
        """
        if not isinstance(values, Mapping):
            msg = f"parameters must be a mapping of names to values, got {values!r}."
            raise TypeError(msg)
        for index, (name, bound) in enumerate(self.bounds.items()):
            if name in values:
                unit = math.degrees(1) if name == "angle" else 1
                check_number(name, values[name], unit * bound.low - 1e-7, unit * bound.high + 1e-7)
                self.raw[index] = bound.raw(values[name] / unit)
        unknown = set(values) - set(self.bounds)
        if unknown:
            msg = f"{self.name} has the parameters {sorted(self.bounds)}, got {sorted(unknown)}."
            raise ValueError(msg)
        return self.raw.detach().clone()

    def starts(self, count: int) -> torch.Tensor:
        """Points from which to tune, spread over the bounds.

        Of a patch small and large area by tall and wide aspect, of a rotation equally spaced angles: this package's
        choice, as the paper's is not known.

        Args:
            count: Number of points; 1 gives the middle.

        Returns:
            Unconstrained numbers, shape (``count``, number of parameters).
        """
        if count == 1:
            return torch.zeros(1, len(self.bounds))
        if len(self.bounds) == 1:
            return torch.logit((torch.arange(count) + 0.5) / count).unsqueeze(1)
        corners = [(area, aspect, 0.0) for aspect, area in product((-1.0, 1.0), (-1.0, 1.0))]
        # Beyond the corners of the grid, points between them.
        corners += [(area, 0.0, 0.0) for area in torch.linspace(-2, 2, max(count - 4, 1)).tolist()]
        return torch.tensor(corners[:count])


def canonical(values: Mapping[str, float]) -> dict[str, float]:
    """Name the parameters of a patch by its longer side, since a tall patch is a wide one turned by 90 degrees.

    Args:
        values: Parameters by name, ``angle`` in radians.

    Returns:
        The same with ``angle`` in degrees; of a patch ``aspect`` is at least 1 and ``angle``, the direction of its
        longer side, in [-90, 90).
    """
    named = {**values, "angle": math.degrees(values["angle"])}
    if "aspect" not in named:
        return named
    if named["aspect"] < 1:
        named |= {"aspect": 1 / named["aspect"], "angle": named["angle"] + 90}
    named["angle"] = (named["angle"] + 90) % 180 - 90
    return named
