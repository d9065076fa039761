# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The surfaces of the demo, by name."""

from __future__ import annotations

from anomalib_ssl.demo.surfaces.base import Surface
from anomalib_ssl.demo.surfaces.fabric import Fabric
from anomalib_ssl.demo.surfaces.leather import Leather
from anomalib_ssl.demo.surfaces.metal import Metal
from anomalib_ssl.demo.surfaces.tile import Tile
from anomalib_ssl.demo.surfaces.wood import Wood

SURFACES: dict[str, type[Surface]] = {
    "fabric": Fabric,
    "leather": Leather,
    "metal": Metal,
    "tile": Tile,
    "wood": Wood,
}

__all__ = ["SURFACES", "Fabric", "Leather", "Metal", "Surface", "Tile", "Wood"]
