# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM as an anomalib model.

Huang, Xu, Wang, Wang and Zhang, "Self-Supervised Masking for Unsupervised Anomaly Detection and Localization", IEEE
Transactions on Multimedia 25, 2023, online 2022, https://arxiv.org/abs/2205.06568.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from anomalib.models import AnomalibModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

from anomalib_ssl.augmentations import LocalCorruption
from anomalib_ssl.checks import check_number
from anomalib_ssl.inspection import Column, Inspection, scored_map
from anomalib_ssl.models.components.restoring_model import DEFAULTS
from anomalib_ssl.models.ssm.loss import SSMLoss
from anomalib_ssl.models.ssm.masking import random_masks
from anomalib_ssl.models.ssm.torch_model import SSMModel
from anomalib_ssl.plain_data import from_mapping
from anomalib_ssl.training.mixin import SelfSupervisedMixin

WEIGHT_DECAY = 1e-5
"""L2 penalty on all weights, of the authors' code."""

COVER = 0.25
"""How much is left of the brightness of hidden pixels in pictures."""


class HiddenImages(NamedTuple):
    """What an update of SSM is given.

    Attributes:
        images: Normal images (B, 3, H, W), values in [0, 1].
        seen: The same, corrupted.
        masks: Which pixels are seen, 1, and which are hidden, 0; shape (n, 1, 1, H, W). Each pixel is hidden by one.
    """

    images: torch.Tensor
    seen: torch.Tensor
    masks: torch.Tensor


class SSM(SelfSupervisedMixin, AnomalibModule):
    """SSM: restore images of which cells are hidden, score by what is restored badly.

    A conditional autoencoder learns to restore normal images, and their masks, from images in which random square cells
    are blanked. To score an image, each of its cells is hidden once at every cell size, and the restorations are
    compared with it; progressive mask refinement may then uncover what was restored well and restore the rest anew,
    with more of the image to go by.

    The datamodule's ``train_batch_size`` is the number of images per update; each passes through the network
    ``num_masks`` times, in one batch. 8 suits images of 256 pixels.

    The paper's full text was not at hand: this follows its abstract and figure 1, and the authors' code, which is for
    retinal images of 128 pixels. From the code: the network, ``cell_sizes`` relative to the image, ``num_masks``, the
    loss and its weights but that of the squared error, the L2 penalty, the threshold (brought to our range of maps),
    share and size of a block, and how ``refined`` is smoothed. This package's choices: ``lr`` and its schedule, the
    image size, the budget and the batch size, the masked images of an update in one batch, ``corruption``, one pass in
    place of two, score and map, and what the map holds where pixels are uncovered. Of the paper's figure 1 is
    ``initial_masks="checkerboard"``.

    Args:
        widths: Channels of the network's stages, from fine to coarse; each but the first halves the resolution. With
            five, the sides of images must be multiples of 16.
        lr: Learning rate of Adam at the start; it is decayed to zero along a cosine. In the code it is 1e-4, with which
            a thousand updates learn next to nothing, and falls to a tenth after 30, 60 and 90 % of them.
        cell_sizes: Sides of the cells that are hidden, one for each scale, in pixels of an image whose shorter side is
            256; other images scale them. Sides of images must be multiples of every cell.
        patch_size: Side in pixels of the patches that images are cut into, their pixels being channels: 2 takes about
            a quarter of the time, in training and in scoring. 1 in the code. Sides of images must be multiples of 32
            then, with five widths.
        num_masks: Number of masks that share the cells of an image; each hides one part in so many.
        corruption: What is done to images before cells are hidden, while the clean image is asked for: what is seen of
            a defect shall not be copied. ``p=0`` for nothing, as in the code.
        refinement_passes: Number of passes of the refinement; 1 for none, 2 in the code.
        initial_masks: ``random`` partitions into ``num_masks``, or ``checkerboard`` pairs, with which scoring takes two
            thirds of the time. They hide half of an image at a time; ``num_masks=2`` trains on as much.
        score: How images are scored: a map's ``_max``, ``_top`` or ``_mean``, several joined by ``+``, or ``auto`` for
            what tells defects planted in held-out images best. By default random filters count twice beside
            errors, and in the map once coarse, once fine (docs/results/random_filters.md).
        heat_map: How defects are located: ``refined`` as in the code; ``plain``, ``scaled``, ``gradient``, ``colour``,
            ``both`` or ``all`` errors of the first pass, see :class:`~anomalib_ssl.scoring.RestorationErrors`; one of
            them standardised pixel by pixel by the training images, as in ``pixels_both``; ``normed_places`` or
            ``places``, how unlikely the encoder's features are; ``filters`` and ``fine_filters``, likewise of
            :class:`~anomalib_ssl.scoring.RandomFilters`; several joined by ``+``; or ``auto``.
        **training: Arguments that all models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Raises:
        TypeError: If an argument is of another type; the message names it.
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import SSM
        >>> model = SSM(widths=(16, 32, 64, 128, 128), image_size=128, seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    scoring_arguments = SelfSupervisedMixin.scoring_arguments | {
        "heat_map",
        "initial_masks",
        "refinement_passes",
        "score",
    }
    # What images are compared with are restorations through these masks.
    fitted_by = scoring_arguments - {"heat_map", "score"} | {"cell_sizes", "num_masks"}

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        lr: float = 1e-3,
        cell_sizes: Sequence[int] = (4, 8, 16),
        patch_size: int = 1,
        num_masks: int = 3,
        corruption: LocalCorruption = LocalCorruption(p=0.6),
        refinement_passes: int = 1,
        initial_masks: Literal["random", "checkerboard"] = "random",
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_number("lr", lr, 1e-12)
        self.lr = lr
        self.num_masks = num_masks
        self.corruption = from_mapping(LocalCorruption, corruption, "corruption")
        self.loss = SSMLoss()
        with self.drawing_weights():
            self.model: SSMModel = SSMModel(
                self.size,
                widths,
                cell_sizes,
                patch_size,
                num_masks=num_masks,
                refinement_passes=refinement_passes,
                initial_masks=initial_masks,
                score=score,
                heat_map=heat_map,
            )

    def augment(self, images: torch.Tensor) -> HiddenImages:
        """Corrupt images, and draw masks that hide every pixel once."""
        seen, _ = self.corruption(images)
        size = (images.shape[-2], images.shape[-1])
        return HiddenImages(images, seen, random_masks(size, self.model.cells, self.num_masks, images.device))

    def losses(self, augmented: HiddenImages) -> dict[str, torch.Tensor]:
        """Restore what the masks hide, though what is seen may be corrupted."""
        images, seen, masks = augmented
        shown = masks.expand(-1, len(images), -1, -1, -1)
        # All masks in one batch: batch norm then sees what it will see when an image is scored.
        restored, restored_masks = self.model((seen * shown).flatten(0, 1), shown.flatten(0, 1))
        terms = self.loss(
            images, restored.unflatten(0, shown.shape[:2]), restored_masks.unflatten(0, shown.shape[:2]), masks
        )
        named = terms._asdict()
        return {"loss": named.pop("total"), **{f"{name}_loss": term for name, term in named.items()}}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, its rate decayed to zero along a cosine over the updates that will really be run."""
        return self.scheduled(torch.optim.Adam(self.model.parameters(), lr=self.lr, weight_decay=WEIGHT_DECAY))

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show pass by pass what is hidden, restored and different, all at the largest cells.

        A line bounds what is not uncovered yet.
        """
        columns = [Column("input", images)]
        numbers: list[dict[str, float | str]] = []
        # As bright as the image that they are shown beside.
        passes, gain = self.model.refine(images), self.model.exposure.gain(images)
        for number, one in enumerate(passes, start=1):
            visible, restored, error = one.masks[-1, 0], one.restored[-1], one.errors[-1]
            hidden, share = 1 - one.uncovered, one.uncovered.mean(dim=(1, 2, 3))
            shares = [f"{value:.0%} uncovered" for value in share.tolist()]
            shown = images * (COVER + (1 - COVER) * visible)
            columns.append(Column(f"pass {number}: hidden", shown, shares, outlined=hidden))
            columns += [Column("restored", restored / gain), Column("error", error)]
            values = {
                "uncovered": share.mean(),
                "error where hidden": (error * hidden).sum() / hidden.sum().clamp(min=1),
                "mean of the map": one.anomaly_map.mean(),
                "mean of its maximum": one.anomaly_map.amax(dim=(1, 2, 3)).mean(),
            }
            numbers.append({"pass": str(number), **{name: float(value) for name, value in values.items()}})
        return Inspection([*columns, scored_map(images, self.model(images))], numbers)
