# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""SSM as an anomalib model.

Huang, Xu, Wang, Wang and Zhang, "Self-Supervised Masking for Unsupervised Anomaly Detection and Localization", IEEE
Transactions on Multimedia 25, 2022, https://arxiv.org/abs/2205.06568.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim.lr_scheduler import LambdaLR

from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.ssm.loss import SSMLoss
from anomalib_ssl.models.ssm.masking import RandomMasks, scaled_cells
from anomalib_ssl.models.ssm.torch_model import SSMModel, check_size
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.mixin import SelfSupervisedMixin

LR_DROPS = (0.3, 0.6, 0.9)
"""Shares of the budget at which the learning rate falls to a tenth: epochs 15, 30 and 45 of 50 in the authors' code."""


class SSM(SelfSupervisedMixin, AnomalibModule):
    """SSM: restore images of which cells are hidden, score by what is restored badly.

    A conditional autoencoder learns to restore normal images, and their masks, from images in which random square cells
    are blanked. To score an image, each of its cells is hidden once at every cell size, and the restorations are
    compared with it in multi-scale gradient magnitude similarity; progressive mask refinement then uncovers what was
    restored well and restores the rest anew, with more of the image to go by.

    The datamodule's ``train_batch_size`` is the number of images per update; each passes through the network
    ``num_masks`` times, in one batch. 8 suits images of 256 pixels.

    The paper's full text was not at hand: this follows its abstract and figure 1, and the authors' code, which is for
    retinal images of 128 pixels. From the code: the network, ``cell_sizes`` relative to the image, ``num_masks``, the
    loss and its weights but ``l2_weight``, ``lr`` and ``weight_decay``, when the learning rate falls, the number of
    passes, the threshold (brought to our range of maps), ``refinement_ratio``, ``refinement_block`` and ``map_sigma``.
    This package's choices: ``l2_weight``, the image size, the budget and the batch size, the masked images of an update
    in one batch, the largest value of the map as the score of an image, ``uncovered_error`` other than ``zero``, and
    all that ``per_sample``, ``uncover_probability``, ``threshold_quantile`` and ``inference_precision`` turn on. Of the
    paper's figure 1 is ``initial_masks="checkerboard"``.

    Args:
        widths: Channels of the network's stages, from fine to coarse; each but the first halves the resolution.
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes. Multiples of 16
            (with five widths) and of every cell size. Not used with a pre-processor of your own that resizes.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images. By default an epoch is one pass.
        compiled: Whether the network runs through ``torch.compile`` in training. Compiling takes a minute or more; what
            it gains depends on the device.
        lr: Initial learning rate of Adam, which falls to a tenth at 30, 60 and 90 % of the updates.
        weight_decay: L2 penalty on all weights.
        cell_sizes: Sides in pixels of the cells that are hidden, one for each scale.
        reference_size: Shorter image side in pixels to which ``cell_sizes`` refer; other images scale them. None
            leaves them as they are.
        num_masks: Number of masks that share the cells of an image; each hides one part in so many.
        per_sample: Whether every image of a batch gets masks of its own in training.
        uncover_probability: How often training uncovers all but a random rectangle before masking, as refinement does.
            The authors' code never does.
        l2_weight: Weight of the squared error of the restored image; 1 in the code.
        ssim_weight: Weight of its structural dissimilarity.
        gms_weight: Weight of its dissimilarity in gradient magnitude.
        mask_weight: Weight of the squared error of the restored masks.
        refinement_passes: Number of passes of the refinement; 1 for none.
        refinement_threshold: Pixels whose map is below it count as restored well, in [0, 1].
        refinement_ratio: Share of such pixels above which a block is uncovered.
        refinement_block: Side of a block in pixels of the image as it is scored. Defaults to the largest cell.
        threshold_quantile: If given, the threshold is this quantile of the first pass' maps of the training images in
            place of ``refinement_threshold``.
        uncovered_error: What the map holds where pixels are uncovered: ``lowest``, the lowest error of all passes in
            which they were hidden, also where they still are; ``kept``, that of the last such pass; or ``zero`` as in
            the authors' code, with which images uncovered completely all score 0.
        initial_masks: ``random`` partitions into ``num_masks``, or ``checkerboard`` pairs, with which scoring takes two
            thirds of the time. They hide half of an image at a time; ``num_masks=2`` trains on as much.
        mask_seed: Seed of the random partitions that images are scored with.
        map_sigma: Gaussian smoothing of the map in pixels of the image as it is scored; 0 for none.
        inference_chunk: Largest number of masked images that pass through the network at once when scoring.
        skip_visible: Whether masked images in which refinement left nothing hidden bypass the network. Scores are the
            same. Exported graphs do not.
        inference_precision: ``float32``, or ``bfloat16`` for restoring under autocast. Exported graphs use float32.
        seed: If given, seeds Python, NumPy and torch before the weights are drawn.
        pre_processor: anomalib pre-processor without ``Normalize``, or a flag for the default.
        post_processor: anomalib post-processor, or a flag for the default.
        evaluator: anomalib evaluator, or a flag for the default.
        visualizer: anomalib visualizer, or a flag for the default.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import SSM
        >>> model = SSM(widths=(16, 32, 64, 128, 128), image_size=128, seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    min_training_images = 1

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 512, 512),
        image_size: int | tuple[int, int] = 256,
        max_updates: int = 10_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        lr: float = 1e-4,
        weight_decay: float = 1e-5,
        cell_sizes: Sequence[int] = (4, 8, 16),
        reference_size: int | None = 256,
        num_masks: int = 3,
        per_sample: bool = False,
        uncover_probability: float = 0.0,
        l2_weight: float = 10.0,
        ssim_weight: float = 1.0,
        gms_weight: float = 1.0,
        mask_weight: float = 1.0,
        refinement_passes: int = 2,
        refinement_threshold: float = 0.0157,
        refinement_ratio: float = 0.8,
        refinement_block: int | None = None,
        threshold_quantile: float | None = None,
        uncovered_error: Literal["zero", "kept", "lowest"] = "lowest",
        initial_masks: Literal["random", "checkerboard"] = "random",
        mask_seed: int = 0,
        map_sigma: float = 7.0,
        inference_chunk: int = 16,
        skip_visible: bool = True,
        inference_precision: Literal["float32", "bfloat16"] = "float32",
        seed: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_number("image_size", min(height, width), 1)
        super().__init__(
            pre_processor=self.configure_pre_processor((height, width)) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.prepare_training(max_updates, in_memory, memory_limits, updates_per_epoch, compiled, seed)
        check_number("lr", lr, 1e-12)
        check_number("weight_decay", weight_decay, 0)
        # The parts check these too, but under names of their own.
        check_number("refinement_passes", refinement_passes, 1)
        check_number("refinement_threshold", refinement_threshold, 0, 1)
        check_number("refinement_ratio", refinement_ratio, 0, 1)
        check_number("inference_chunk", inference_chunk, 1)
        check_choice("inference_precision", inference_precision, ("float32", "bfloat16"))
        self.lr = lr
        self.weight_decay = weight_decay
        size = self.input_size or (height, width)
        # Before the cells, which would complain of a size that is no good either way.
        check_size(size, 1)
        cells = scaled_cells(cell_sizes, size, reference_size)
        self.draw_masks = RandomMasks(cells, num_masks, per_sample, uncover_probability)
        self.loss = SSMLoss(l2_weight, ssim_weight, gms_weight, mask_weight)
        self.model: SSMModel = SSMModel(
            size,
            cells,
            widths,
            num_masks=num_masks,
            passes=refinement_passes,
            threshold=refinement_threshold,
            ratio=refinement_ratio,
            block=refinement_block,
            map_sigma=map_sigma,
            initial_masks=initial_masks,
            seed=mask_seed,
            threshold_quantile=threshold_quantile,
            uncovered_error=uncovered_error,
            chunk=inference_chunk,
            skip=skip_visible,
            precision=inference_precision,
        )

    def on_train_start(self) -> None:
        """Train in training mode, also a model that was scored with before: Lightning leaves modes as they are."""
        super().on_train_start()
        self.model.train()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Hide every pixel of a batch of normal images once, and restore it."""
        del args, kwargs
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        masks = self.draw_masks(images)
        shown = masks.expand(-1, len(images), -1, -1, -1)
        # All masks in one batch: batch norm then sees what it will see when an image is scored.
        restored, restored_masks = self.train_forward((images * shown).flatten(0, 1), shown.flatten(0, 1))
        terms = self.loss(
            images, restored.unflatten(0, shown.shape[:2]), restored_masks.unflatten(0, shown.shape[:2]), masks
        )
        self.log("train_loss", terms.total, prog_bar=True, batch_size=len(images))
        self.log_dict(
            {f"train_{name}_loss": term for name, term in terms._asdict().items() if name != "total"},
            batch_size=len(images),
        )
        loss: torch.Tensor = terms.total
        return loss

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, whose learning rate falls to a tenth at shares of the updates that will really be run."""
        optimizer = torch.optim.Adam(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        total = total_updates(self.trainer)
        # A function of the update alone: a run resumed with a larger budget follows the longer schedule.
        schedule = LambdaLR(optimizer, lambda update: 0.1 ** sum(update >= share * total for share in LR_DROPS))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Calibrate the threshold of the refinement where ``threshold_quantile`` asks for it.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1].
        """
        training = self.model.training
        self.model.eval()
        self.model.fit(images)
        self.model.train(training)
