# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""NSA as a torch model: the map of what was changed, and scores from it."""

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.models.components import ScoredModel
from anomalib_ssl.models.nsa.network import NSANetwork, check_sides
from anomalib_ssl.scoring import Evidence, error_scorer


class NSAModel(ScoredModel):
    """The model of NSA (Schlüter et al., ECCV 2022; https://arxiv.org/abs/2109.15222).

    In training mode it gives logits. In evaluation mode the anomaly map is their sigmoid, ``change``, not smoothed, and
    an image's score is the mean of the map, both as in the authors' code. The scorer standardises either by normal
    images, which changes no rank. Other numbers of the map, and the map standardised pixel by pixel, are this package's
    candidates.

    Args:
        backbone: Name of a timm network; see :class:`NSANetwork`.
        score: Candidate for scores, or ``auto``; see :func:`~anomalib_ssl.scoring.error_scorer`.
        heat_map: Candidate for maps, or ``auto``.
        image_size: Height and width in pixels of the images, multiples of 32.

    Raises:
        ValueError: If an argument is outside its limits.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> model = NSAModel("test_resnet", image_size=(64, 64)).eval()
        >>> with torch.no_grad():
        ...     model.fit([torch.rand(2, 3, 64, 64)])
        ...     predictions = model(torch.rand(2, 3, 64, 64))
        >>> predictions.anomaly_map.shape, predictions.pred_score.shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2]))
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        score: str = "change_mean",
        heat_map: str = "change",
        image_size: tuple[int, int] = (256, 256),
    ) -> None:
        super().__init__()
        check_sides("image_size", image_size)
        self.network = NSANetwork(backbone)
        self.scorer = error_scorer({"change": 1}, image_size, score, heat_map, ("change_mean", "change"))

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Compute logits in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, 1, H, W) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before training.
        """
        if not self.training:
            return self.score_images(images)
        logits: torch.Tensor = self.network(images)
        return logits

    def evidence(self, images: torch.Tensor, names: frozenset[str] = frozenset()) -> Evidence:
        """Compute how much each pixel of images (B, 3, H, W) looks changed: ``change`` (B, 1, H, W) in [0, 1]."""
        del names
        return {"change": self.network(images).sigmoid()}
