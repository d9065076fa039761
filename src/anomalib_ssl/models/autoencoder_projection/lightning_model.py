# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Autoencoder projection as an anomalib model.

Bauer, Nakajima and Müller, "Self-Supervised Autoencoders for Visual Anomaly Detection", Mathematics 2024, 12 (24),
3988, https://arxiv.org/abs/2206.11723.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import ImageVisualizer, Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import BinaryAUROC

from anomalib_ssl import augmentations
from anomalib_ssl.checks import check_number
from anomalib_ssl.models.autoencoder_projection import diagnostics
from anomalib_ssl.models.autoencoder_projection.loss import ProjectionLoss
from anomalib_ssl.models.autoencoder_projection.network import check_sides
from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel
from anomalib_ssl.models.autoencoder_projection.visualizer import ReconstructionVisualizer
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.evaluation_weights import EvaluationWeights
from anomalib_ssl.training.held_out import HeldOut
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from anomalib_ssl.training.schedule import cosine_factor

HELD_OUT_SEED = 0
"""Seed of the corruptions by which weights are compared."""

LEAST_HELD_OUT = 32
"""Least number of corrupted images by which weights are compared; fewer images are corrupted repeatedly."""


class AutoencoderProjection(SelfSupervisedMixin, AnomalibModule):
    """Autoencoder projection: restore partly corrupted images, score by what is changed.

    An autoencoder learns to give back the normal image from one with corrupted regions: to repair what is not normal
    and to leave the rest alone, like an orthogonal projection onto the normal images. An image's anomaly map is its
    smoothed squared reconstruction error, from a single forward pass.

    From the paper's abstract: training on partial, structured distortions with a modified reconstruction error of the
    clean image; scoring by the reconstruction error of one forward pass. Its text and tables were not available: all
    numbers here are this package's choices, and so are ``map_statistics``, ``error_normalization``, the moving average
    of the weights, and their selection on held-out images.

    Args:
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes; multiples of 8.
        widths: Channels of the autoencoder at full, half and quarter resolution.
        sdc_layers: Number of stacked dilated convolutions at an eighth of the resolution.
        sdc_width: Channels of each of their dilation rates.
        dilations: Dilation rates. By default chosen by ``image_size``; see
            :class:`~anomalib_ssl.models.autoencoder_projection.SDCAutoencoder`.
        skip: ``none``, or ``ccm`` for gated skip connections.
        fuse: Whether a 3 x 3 convolution follows each of the stacked dilated convolutions.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images. By default an epoch is one pass.
        compiled: Whether network and augmentations run through ``torch.compile`` in training.
        lr: Learning rate of AdamW after the warm-up, decayed along a cosine.
        final_lr: Learning rate at the end.
        warmup_updates: Updates over which the rate rises from zero, a tenth of the run at most.
        weight_decay: Decoupled weight decay.
        gradient_clip: Largest norm of the gradient; 0 for any. ``gradient_clip_val`` of the Trainer takes precedence.
        ema_decay: Decay of the moving average of the weights, which is what is scored with; 0 for the weights
            themselves. It is less at the start.
        held_out_share: Share of the training images that is not trained on but held out, at least one and at most
            100; 0 for none. None of fewer than 10 images. Validation and test images are never used.
        select_best: Whether of all validations the weights with the least loss on held-out images are kept.
        clean_weight: Weight of the error where images were not corrupted.
        masked_weight: Weight of the error where they were.
        loss_weighting: ``region`` for an average over either region, weighted as above; ``pixel`` for the plain mean
            squared error.
        corruption_p: Probability that a training image is corrupted.
        fills: What corrupted regions are filled with; see :class:`~anomalib_ssl.augmentations.LocalCorruption`.
        textures: Folder of images to fill corrupted regions with, such as the Describable Textures Dataset.
        shapes: Kinds of corrupted regions.
        regions: Smallest and largest number of corrupted regions in an image.
        area: Smallest and largest share of an image that is corrupted.
        opacity: Smallest and largest opacity of what corrupts.
        flips: Flips that leave a normal image normal, ``horizontal`` and ``vertical``: done to half of the images each.
        quarter_turns: Whether turns by multiples of 90 degrees do so too; square images only.
        rotation: Training images are rotated by up to this many degrees either way.
        shift: Training images are shifted by up to this share of their shorter side.
        padding: What fills the places that these uncover, ``border`` or ``reflection``.
        identity_noise_sigma: Standard deviation of Gaussian noise that is added to the corrupted image and to the
            clean one alike, so that the autoencoder learns to keep it. It belongs to a follow-up by the first author
            (https://arxiv.org/abs/2511.07233), not to this method.
        box_size: Side in pixels of the window that smooths the map, odd. By default about a 24th of the image's.
        box_passes: How many times it does so.
        error_normalization: ``none``; or ``reconstruction`` or ``input`` to divide errors by what is normal at a place
            of the contrast of either, in an image of the contrast of the input.
        map_statistics: ``none``; ``mean`` to subtract the mean map of the training images, or ``standardize`` to also
            divide by its standard deviation.
        statistics_for: Whether this is done for the ``score`` of an image only, or in the ``map`` as well.
        score: An image's score: its map's ``max``, ``mean``, ``sum``, or ``topk_mean``, the mean of the largest values.
        topk_share: Share of the pixels that ``topk_mean`` averages.
        seed: If given, seeds Python, NumPy and torch before the weights are drawn.
        pre_processor: anomalib pre-processor without ``Normalize``, or a flag for the default.
        post_processor: anomalib post-processor, or a flag for the default.
        evaluator: anomalib evaluator, or a flag for the default.
        visualizer: anomalib visualizer, or a flag for the default, which adds reconstructions and errors.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.
        FileNotFoundError: If ``textures`` is no folder with images.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import AutoencoderProjection
        >>> model = AutoencoderProjection(seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 256,
        widths: Sequence[int] = (32, 64, 128),
        sdc_layers: int = 4,
        sdc_width: int = 64,
        dilations: Sequence[int] | None = None,
        skip: Literal["none", "ccm"] = "none",
        fuse: bool = False,
        max_updates: int = 20_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        lr: float = 1e-3,
        final_lr: float = 1e-6,
        warmup_updates: int = 500,
        weight_decay: float = 1e-5,
        gradient_clip: float = 1.0,
        ema_decay: float = 0.999,
        held_out_share: float = 0.1,
        select_best: bool = True,
        clean_weight: float = 0.9,
        masked_weight: float = 0.1,
        loss_weighting: Literal["region", "pixel"] = "region",
        corruption_p: float = 0.9,
        fills: Sequence[str] | dict[str, float] | None = None,
        textures: str | Path | None = None,
        shapes: Sequence[Literal["ellipse", "blob", "stroke"]] = ("ellipse", "blob", "stroke"),
        regions: tuple[int, int] = (1, 3),
        area: tuple[float, float] = (0.002, 0.25),
        opacity: tuple[float, float] = (0.2, 1.0),
        flips: Sequence[Literal["horizontal", "vertical"]] = (),
        quarter_turns: bool = False,
        rotation: float = 0.0,
        shift: float = 0.0,
        padding: Literal["border", "reflection"] = "border",
        identity_noise_sigma: float = 0.0,
        box_size: int | None = None,
        box_passes: int = 2,
        error_normalization: Literal["none", "reconstruction", "input"] = "input",
        map_statistics: Literal["none", "mean", "standardize"] = "standardize",
        statistics_for: Literal["score", "map"] = "score",
        score: Literal["max", "mean", "sum", "topk_mean"] = "max",
        topk_share: float = 0.01,
        seed: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_sides("image_size", (height, width))
        super().__init__(
            pre_processor=self.configure_pre_processor((height, width)) if pre_processor is True else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.prepare_training(max_updates, in_memory, memory_limits, updates_per_epoch, compiled, seed)
        check_number("lr", lr, 1e-12)
        check_number("final_lr", final_lr, 0, lr)
        check_number("warmup_updates", warmup_updates, 0)
        check_number("weight_decay", weight_decay, 0)
        check_number("gradient_clip", gradient_clip, 0)
        check_number("corruption_p", corruption_p, 0, 1)
        check_number("identity_noise_sigma", identity_noise_sigma, 0, 1)
        self.lr = lr
        self.final_lr = final_lr
        self.warmup_updates = warmup_updates
        self.weight_decay = weight_decay
        self.gradient_clip = gradient_clip
        self.ema_decay = ema_decay
        self.held_out_share = held_out_share
        self.select_best = select_best
        self.identity_noise_sigma = identity_noise_sigma
        self.symmetries = augmentations.Symmetries(flips, quarter_turns, rotation, shift, padding)
        self.corruption = augmentations.LocalCorruption(
            p=corruption_p,
            fills=fills,
            textures=textures,
            shapes=shapes,
            regions=regions,
            area=area,
            opacity=opacity,
        )
        self.loss = ProjectionLoss(clean_weight, masked_weight, loss_weighting)
        self.model: AutoencoderProjectionModel = AutoencoderProjectionModel(
            self.input_size or (height, width),
            box_size=box_size,
            box_passes=box_passes,
            error_normalization=error_normalization,
            map_statistics=map_statistics,
            statistics_for=statistics_for,
            score=score,
            topk_share=topk_share,
            widths=widths,
            sdc_layers=sdc_layers,
            sdc_width=sdc_width,
            dilations=dilations,
            skip=skip,
            fuse=fuse,
        )
        # Checked here, before the data is read.
        self._evaluation_callbacks()

    def configure_callbacks(self) -> Sequence[Callback]:
        """Set images aside before anything reads them, and choose weights before statistics are fitted to them."""
        return [*self._evaluation_callbacks(), *super().configure_callbacks()]

    def _evaluation_callbacks(self) -> list[Callback]:
        held_out = HeldOut(self.held_out_share)
        return [held_out, EvaluationWeights(self.model.autoencoder, self.ema_decay, held_out, self.select_best)]

    def setup(self, stage: str) -> None:
        """Refuse data that cannot be trained on before training starts."""
        super().setup(stage)
        if stage == "fit" and self.input_size is not None:
            # Sampling checks the sizes; a generator of its own leaves the run's random numbers alone.
            self.corrupted(torch.zeros(2, 3, *self.input_size), torch.Generator())

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Restore a batch of normal images from corrupted ones."""
        del args, kwargs
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        corrupted, masks, target = self.corrupted(images)
        loss: torch.Tensor = self.loss(self.train_forward(corrupted), target, masks)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(images))
        return loss

    @torch.no_grad()
    def corrupted(
        self, images: torch.Tensor, generator: torch.Generator | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Make inputs and targets of training.

        Args:
            images: Normal images (B, 3, H, W), values in [0, 1].
            generator: Source of randomness on the images' device.

        Returns:
            Corrupted images (B, 3, H, W), boolean masks (B, 1, H, W) of what was corrupted, and the images to be
            restored (B, 3, H, W).
        """
        # In full precision, so that pixels outside the masks stay as they are.
        with torch.autocast(images.device.type, enabled=False), augmentations.compiled_augmentations(self.compiled):
            target, _ = self.symmetries(images, generator)
            corrupted, masks = self.corruption(target, generator)
        if self.identity_noise_sigma > 0:
            noise = torch.empty_like(target).normal_(0, self.identity_noise_sigma, generator=generator)
            corrupted, target = (corrupted + noise).clamp(0, 1), (target + noise).clamp(0, 1)
        return corrupted, masks, target

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; the rate rises linearly, then falls along a cosine over the updates that will really be run."""
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        total = total_updates(self.trainer)
        warmup = min(self.warmup_updates, total // 10)
        final = self.final_lr / self.lr

        def factor(update: int) -> float:
            if update < warmup:
                return (update + 1) / (warmup + 1)
            return final + (1 - final) * cosine_factor(update - warmup, max(total - warmup, 1))

        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm, unless the Trainer says how to clip."""
        if gradient_clip_val is None:
            gradient_clip_val, gradient_clip_algorithm = self.gradient_clip, "norm"
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Fit what scores are compared with, if ``error_normalization`` or ``map_statistics`` ask for it.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through repeatedly.

        Raises:
            ValueError: If there are none.
        """
        if not self.model.needs_statistics:
            return
        training = self.model.training
        self.model.eval()
        self.model.fit(images)
        self.model.train(training)

    @torch.no_grad()
    def held_out_metrics(self, images: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Measure how well corrupted images are restored, and the corruption found, with the same corruption each time.

        Args:
            images: Clean images that were not trained on, in batches (B, 3, H, W), values in [0, 1]. Fewer than 32 are
                gone through repeatedly.

        Returns:
            ``loss``, that of training, and ``pixel_AUROC`` of the smoothed error against the corruption's masks, before
            any statistics.

        Raises:
            ValueError: If there are no images.
        """
        training = self.model.training
        self.model.eval()
        corrupt = replace(self.corruption, p=1.0)
        generator = torch.Generator(self.device).manual_seed(HELD_OUT_SEED)
        auroc = BinaryAUROC().to(self.device)
        total, count = torch.zeros((), device=self.device), 0
        while count < LEAST_HELD_OUT:
            before = count
            for batch in images:
                corrupted, masks = corrupt(batch, generator)
                reconstruction = self.model.autoencoder(corrupted)
                total += self.loss(reconstruction, batch, masks) * len(batch)
                auroc.update(self.model.error_map(corrupted, reconstruction), masks)
                count += len(batch)
            if count == before:
                msg = "Held-out images are needed to measure anything, got none."
                raise ValueError(msg)
        self.model.train(training)
        return {"loss": total / count, "pixel_AUROC": auroc.compute()}

    def diagnose(self, images: torch.Tensor, generator: torch.Generator | None = None) -> dict[str, torch.Tensor]:
        """Compare the autoencoder with an orthogonal projection, in evaluation mode.

        Args:
            images: Clean images, best ones that were not trained on, shape (B, 3, H, W), values in [0, 1].
            generator: Source of randomness for corruptions and derivatives, on the images' device.

        Returns:
            One value an image (B,) for each of the properties in
            :mod:`~anomalib_ssl.models.autoencoder_projection.diagnostics`.
        """
        training = self.model.training
        self.model.eval()
        corrupted, masks = replace(self.corruption, p=1.0)(images, generator)
        measured = diagnostics.measure(self.model.autoencoder, images, corrupted, masks, generator)
        self.model.train(training)
        return measured

    def _score(self, batch: Batch) -> Batch:
        # As the mixin does, but keeps the reconstruction for the visualizer: no second pass for a picture.
        with torch.autocast(self.device.type, enabled=False):
            images: torch.Tensor = batch.image  # type: ignore[assignment]
            reconstruction = self.model.autoencoder(images)
            scored: Batch = batch.update(**self.model.compare(images, reconstruction)._asdict())
        vars(scored)["reconstruction"] = reconstruction
        return scored

    @classmethod
    def configure_visualizer(cls) -> ImageVisualizer:
        """Anomalib's pictures, with reconstruction and error beside them."""
        return ReconstructionVisualizer()
