# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Anomaly scores from what an autoencoder changes in an image."""

from typing import Any

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.models.autoencoder_projection.network import SDCAutoencoder
from anomalib_ssl.models.components import RestoringModel
from anomalib_ssl.models.components.restoring_model import DEFAULTS
from anomalib_ssl.scoring import ERRORS, Evidence


class AutoencoderProjectionModel(RestoringModel):
    """Autoencoder and reconstruction error (Bauer et al., Mathematics 2024, 12 (24), 3988).

    In training mode the model gives reconstructions. In evaluation mode it gives anomaly maps and scores. That
    detection is by the reconstruction error of one forward pass is the paper's. The kinds of errors
    (:class:`~anomalib_ssl.scoring.RestorationErrors`) and all that is done with them are this package's choices;
    neither text nor tables of the paper were available.

    Args:
        image_size: Height and width in pixels of the images, multiples of 8.
        score: Candidate for scores, or ``auto``; see :meth:`score_by`.
        heat_map: Candidate for maps, or ``auto``.
        **autoencoder: Arguments of :class:`SDCAutoencoder`.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = AutoencoderProjectionModel((64, 64), widths=(4, 8, 16), sdc_layers=1, sdc_width=4).eval()
        >>> model.fit([torch.rand(2, 3, 64, 64)])
        >>> predictions = model(torch.rand(2, 3, 64, 64))
        >>> predictions.anomaly_map.shape, predictions.pred_score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        image_size: tuple[int, int] = (256, 256),
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **autoencoder: Any,
    ) -> None:
        super().__init__()
        self.autoencoder = SDCAutoencoder(image_size, **autoencoder)
        self.score_by(image_size, score, heat_map)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Reconstruct images in training mode, score them in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Reconstructions (B, 3, H, W) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before the statistics that the score needs were fitted.
        """
        return self.restore(images) if self.training else self.score_images(images)

    def reconstruct_and_score(self, images: torch.Tensor) -> tuple[torch.Tensor, InferenceBatch]:
        """Give reconstructions (B, 3, H, W) of images of equal exposure, and what :meth:`score_images` says of them."""
        stages = self.autoencoder.encode(images)
        restored = self.autoencoder.decode(stages[-1])
        return restored, self.scorer(images, lambda images, names: self.compare(images, names, restored, stages))

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Reconstruct images (B, 3, H, W) in [0, 1] and compare them; the encoder runs once for all evidence."""
        stages = self.autoencoder.encode(images)
        restored = self.autoencoder.decode(stages[-1]) if names & ERRORS.keys() else None
        return self.compare(images, names, restored, stages)

    def restore(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct images (B, 3, H, W) in [0, 1]."""
        return self.autoencoder(images)

    def encode(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Compute features of images (B, 3, H, W) in [0, 1]; see :meth:`SDCAutoencoder.encode`."""
        return self.autoencoder.encode(images)
