# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Autoencoder projection as an anomalib model.

Bauer, Nakajima and Müller, "Self-Supervised Autoencoders for Visual Anomaly Detection", Mathematics 2024, 12 (24),
3988, https://arxiv.org/abs/2206.11723.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from anomalib.data import Batch
from anomalib.models import AnomalibModule
from anomalib.visualization import ImageVisualizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from anomalib_ssl.augmentations import LocalCorruption, Symmetries
from anomalib_ssl.checks import check_number
from anomalib_ssl.inspection import Inspection
from anomalib_ssl.models.autoencoder_projection import inspection
from anomalib_ssl.models.autoencoder_projection.loss import ProjectionLoss
from anomalib_ssl.models.autoencoder_projection.network import SDCAutoencoder
from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel
from anomalib_ssl.models.autoencoder_projection.visualizer import ReconstructionVisualizer
from anomalib_ssl.models.components.restoring_model import DEFAULTS
from anomalib_ssl.plain_data import from_mapping
from anomalib_ssl.training.mixin import SelfSupervisedMixin

WARMUP_UPDATES = 500
"""Updates over which the learning rate rises from zero, a tenth of the run at most."""

FINAL_LR = 1e-6
"""Learning rate at the end of the run."""

WEIGHT_DECAY = 1e-5
"""Decoupled weight decay of AdamW."""

GRADIENT_CLIP = 1.0
"""Largest norm of the gradient."""


class CorruptedImages(NamedTuple):
    """What an update of AutoencoderProjection is given.

    Attributes:
        images: Normal images (B, 3, H, W), values in [0, 1].
        corrupted: The same, corrupted.
        masks: Where, boolean, (B, 1, H, W).
    """

    images: torch.Tensor
    corrupted: torch.Tensor
    masks: torch.Tensor


class AutoencoderProjection(SelfSupervisedMixin, AnomalibModule):
    """Autoencoder projection: restore partly corrupted images, score by what is changed.

    An autoencoder learns to give back the normal image from one with corrupted regions: to repair what is not normal
    and to leave the rest alone, like an orthogonal projection onto the normal images. An image is scored by its
    smoothed reconstruction error from a single forward pass; by default random filters have a part in that.

    From the paper's abstract: training on partial, structured distortions with a modified reconstruction error of the
    clean image; scoring by the reconstruction error of one forward pass. Its text and tables were not available: all
    numbers here are this package's choices, and so are the kinds of errors, how scores are made of them, and the
    averaged weights.

    Images must have sides that are multiples of 8, 16 at least. The learning rate rises over 500 updates, a tenth of
    the run at most, and falls along a cosine. The gradient's norm is clipped at 1, unless the Trainer has a
    ``gradient_clip_val``.

    Args:
        widths: Channels of the autoencoder at full, half and quarter resolution.
        sdc_layers: Number of stacked dilated convolutions at an eighth of the resolution.
        sdc_width: Channels of each of their dilation rates.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        lr: Learning rate of AdamW after the warm-up.
        ema_decay: Decay of the moving average of the weights, which is what is scored with; 0 for the weights
            themselves. It is less at the start.
        masked_weight: Weight of the mean error where images were corrupted; that of the mean elsewhere is the rest.
        corruption: How training images are corrupted.
        symmetries: What leaves a normal image normal, and is done to training images before; nothing by default.
        score: How images are scored: a map's ``_max``, ``_top`` or ``_mean``, as in ``scaled_top``, several joined by
            ``+``, or ``auto`` for what tells defects planted in held-out images best. By default random filters count
            twice beside errors, and in the map once coarse, once fine (docs/results/random_filters.md).
        heat_map: How defects are located: ``auto``, chosen likewise; ``plain``, ``scaled``, ``gradient``, ``colour``,
            ``both`` or ``all`` errors, see :class:`~anomalib_ssl.scoring.RestorationErrors`; one of them standardised
            pixel by pixel by the training images, as in ``pixels_scaled``; ``normed_places`` or ``places``, how
            unlikely the encoder's features are; ``filters`` and ``fine_filters``, likewise of
            :class:`~anomalib_ssl.scoring.RandomFilters`; or several joined by ``+``.
        **training: Arguments that all models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`. The
            default visualizer adds reconstructions and errors.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is outside its limits; the message names it.
        FileNotFoundError: If ``corruption.textures`` is no folder with images.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import AutoencoderProjection
        >>> model = AutoencoderProjection(seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {"heat_map", "score"}

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128),
        sdc_layers: int = 4,
        sdc_width: int = 64,
        max_updates: int = 20_000,
        lr: float = 1e-3,
        ema_decay: float = 0.999,
        masked_weight: float = 0.1,
        corruption: LocalCorruption = LocalCorruption(),
        symmetries: Symmetries = Symmetries(),
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(max_updates=max_updates, **training)
        check_number("lr", lr, FINAL_LR)
        check_number("ema_decay", ema_decay, 0, 0.99999)
        self.lr = lr
        self.ema_decay = ema_decay
        self.corruption = from_mapping(LocalCorruption, corruption, "corruption")
        self.symmetries = from_mapping(Symmetries, symmetries, "symmetries")
        self.loss = ProjectionLoss(masked_weight)
        with self.drawing_weights():
            self.model: AutoencoderProjectionModel = AutoencoderProjectionModel(
                self.size,
                score=score,
                heat_map=heat_map,
                widths=widths,
                sdc_layers=sdc_layers,
                sdc_width=sdc_width,
            )

    @property
    def trained_part(self) -> SDCAutoencoder:
        """The autoencoder; statistics of the scores are fitted to it."""
        return self.model.autoencoder

    def augment(self, images: torch.Tensor) -> CorruptedImages:
        """Turn images and corrupt them."""
        images, _ = self.symmetries(images)
        return CorruptedImages(images, *self.corruption(images))

    def losses(self, augmented: CorruptedImages) -> dict[str, torch.Tensor]:
        """Restore normal images from corrupted ones."""
        images, corrupted, masks = augmented
        return {"loss": self.loss(self.model(corrupted), images, masks)}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; the rate rises linearly, then falls along a cosine over the updates that will really be run."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=WEIGHT_DECAY)
        return self.scheduled(optimizer, final=FINAL_LR / self.lr, warmup=WARMUP_UPDATES)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm, unless the Trainer says how to clip."""
        if gradient_clip_val is None:
            gradient_clip_val, gradient_clip_algorithm = GRADIENT_CLIP, "norm"
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show what becomes of images and of corrupted ones, beside what an orthogonal projection would do."""
        return inspection.inspect(self.model, replace(self.corruption, p=1.0), images)

    def score_batch(self, batch: Batch) -> Batch:
        """Score a batch, and keep its reconstructions for the visualizer: no second pass for a picture."""
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        reconstruction, predictions = self.model.reconstruct_and_score(self.model.exposure(images))
        scored: Batch = batch.update(**predictions._asdict())
        # As bright as the image that it is shown beside.
        vars(scored)["reconstruction"] = reconstruction / self.model.exposure.gain(images)
        return scored

    @classmethod
    def configure_visualizer(cls) -> ImageVisualizer:
        """Anomalib's pictures, with reconstruction and error beside them."""
        return ReconstructionVisualizer()
