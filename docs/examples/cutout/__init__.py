# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A model in one folder: an augmentation, a torch model and a lightning model."""

from cutout.augmentation import Cutout
from cutout.lightning_model import CutoutNet
from cutout.torch_model import CutoutModel

__all__ = ["Cutout", "CutoutModel", "CutoutNet"]
