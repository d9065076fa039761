# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A procedural data set in MVTec layout, and a training on it that needs no download."""

from anomalib_ssl.demo.dataset import write_dataset
from anomalib_ssl.demo.specimen import Specimen, photograph
from anomalib_ssl.demo.surfaces import SURFACES

__all__ = ["SURFACES", "Specimen", "photograph", "write_dataset"]
