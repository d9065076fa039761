# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""NSA as a torch model: the map of what was changed, and scores from it."""

import torch
from anomalib.data import InferenceBatch

from anomalib_ssl.checks import check_sides
from anomalib_ssl.models.components import ScoredModel, feature_evidence, feature_scorer
from anomalib_ssl.models.components.feature_scoring import LAST, SHOWN, WITH_FILTERS
from anomalib_ssl.models.nsa.network import STRIDE, NSANetwork
from anomalib_ssl.scoring import Errors, Evidence, Pixels
from anomalib_ssl.scoring.box_filter import default_box_size

CHANGE = "change"
"""Name of the published map, and of its evidence."""

DEFAULTS = (f"{WITH_FILTERS}_max", f"{CHANGE}+{SHOWN}")
"""Score and map (docs/results/random_filters.md has figures)."""


class NSAModel(ScoredModel):
    """The model of NSA (Schlüter et al., ECCV 2022; https://arxiv.org/abs/2109.15222).

    In training mode it gives logits. In evaluation mode the sigmoid of these is the map ``change``, not smoothed, and
    its mean ``change_mean`` an image's score: the authors' code has no other. The scorer standardises either by normal
    images, which changes no rank. All else is this package's: other numbers of the map, the map standardised pixel by
    pixel, and how unlikely features of the encoder are, see :func:`~anomalib_ssl.models.components.feature_scorer`. By
    default a score is of these together with random filters, a map of that and of what the network finds changed.

    Args:
        backbone: Name of a timm network; see :class:`NSANetwork`.
        score: Candidate for scores, or ``auto``.
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
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        image_size: tuple[int, int] = (256, 256),
    ) -> None:
        super().__init__()
        check_sides("image_size", image_size, STRIDE)
        self.network = NSANetwork(backbone)
        own = {CHANGE: Errors(CHANGE), f"pixels_{CHANGE}": Pixels(CHANGE, image_size, default_box_size(image_size))}
        self.scorer = feature_scorer(self.network.backbone, image_size, score, heat_map, own, DEFAULTS)

    def forward(self, images: torch.Tensor) -> torch.Tensor | InferenceBatch:
        """Compute logits in training mode, score images in evaluation mode.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1].

        Returns:
            Logits (B, 1, H, W) in training mode; else ``pred_score`` (B,) and ``anomaly_map`` (B, 1, H, W).

        Raises:
            NotFittedError: If images are scored before training.
        """
        return self.network(images) if self.training else self.score_images(images)

    def evidence(self, images: torch.Tensor, names: frozenset[str]) -> Evidence:
        """Compute how much each pixel of images (B, 3, H, W) looks changed, (B, 1, H, W) in [0, 1], and features."""
        if names == {CHANGE}:
            return {CHANGE: self.network(images).sigmoid()}
        wanted = names | {LAST} if CHANGE in names else names
        evidence = dict(feature_evidence(self.network.backbone, images, wanted))
        if CHANGE in names:
            evidence[CHANGE] = self.network.decode(evidence[LAST]).sigmoid()
        return evidence
