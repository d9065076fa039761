# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What all torch models do in evaluation: give evidence, and let the scorer make maps and scores of it."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_ssl.models.components.probing import probing
from anomalib_ssl.scoring import Evidence, Scorer
from anomalib_ssl.scoring.exposure import Exposure


class ScoredModel(nn.Module):
    """Base of the torch models.

    Attributes:
        exposure: Brings images to one brightness before anything else, once it is fitted.
        scorer: Makes maps and scores. To be assigned by the subclass.
    """

    scorer: Scorer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.exposure = Exposure()

    @abstractmethod
    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Work out what the network says of images, before that is compared with normal ones.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].
            names: What is wanted; more may be given.

        Returns:
            Tensors by name.
        """

    def score_images(self, images: torch.Tensor) -> InferenceBatch:
        """Score images (B, 3, H, W) in [0, 1]: ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If :meth:`fit` has not run and no fitted state was loaded.
        """
        return self.scorer(self.exposure(images), self.evidence)

    def fit(self, images: Iterable[torch.Tensor], held_out: Iterable[torch.Tensor] = ()) -> None:
        """Fit what images are compared with, in evaluation mode whatever the mode is, and choose how they are scored.

        Args:
            images: Clean training images in batches (B, 3, H, W) of equal exposure. May be gone through repeatedly.
            held_out: Clean images that were not trained on, likewise.

        Raises:
            ValueError: If there are too few, or training has diverged.
        """
        # A fit that fails shall leave nothing to score with.
        self.scorer.forget()
        with probing(self):
            self.fit_evidence(images)
            self.scorer.fit(images, self.evidence, held_out)

    def fit_evidence(self, images: Iterable[torch.Tensor]) -> None:
        """Fit what :meth:`evidence` itself makes use of, to the images of :meth:`fit`; nothing unless overridden."""
