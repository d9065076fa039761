# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste as an anomalib model.

Li, Sohn, Yoon and Pfister, "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021,
https://arxiv.org/abs/2104.04015.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from anomalib_ssl import augmentations
from anomalib_ssl.checks import check_choice, check_number, check_range
from anomalib_ssl.models.cutpaste.ensemble import CutPasteEnsemble
from anomalib_ssl.models.cutpaste.network import CutPasteNetwork
from anomalib_ssl.models.cutpaste.patch_model import CutPastePatchModel
from anomalib_ssl.models.cutpaste.torch_model import CutPasteModel
from anomalib_ssl.models.cutpaste.views import CutPasteViews
from anomalib_ssl.scoring.gaussian import SHRINKAGES
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from anomalib_ssl.training.schedule import fine_tuning_schedule


class CutPaste(SelfSupervisedMixin, AnomalibModule):
    """CutPaste: classify cut-and-pasted images, score by a Gaussian density of the learned features.

    A network learns to tell normal images from images with a pasted patch (equation 1 of the paper); then a Gaussian is
    fitted to its pooled features of the clean training images, and an image's anomaly score is its negative log-density
    (equation 2). Heat maps come from GradCAM on that score (section 4.2).

    With ``mode="patch"`` the network is trained on crops and scores every window of an image: the map is the upsampled
    density of the windows, the image's score that of the worst (section 4.2, appendix A.5).

    The datamodule's ``train_batch_size`` is the number of source images per update; each gives two or three views.

    From the paper: variant, patch and scar ranges, jitter of patches, optimiser and learning rate, crop size, window
    size and stride. This package's choices, where the paper is silent: ``head_dims``, ``base_shift``, ``base_jitter``,
    the density's scaling and shrinkage, what GradCAM differentiates, ``upsample_sigma``, ``normalize_overlap``, the
    standardisation in ensembles, and the shorter default budget (the paper trains 65,536 updates).

    Args:
        backbone: Name of a timm network with a spatial feature map.
        pretrained: Whether the backbone starts from timm's pretrained weights. The paper's ResNet-18 does not.
        layer: Feature map that is scored: ``pool`` for the last, ``level7`` for the paper's other choice on
            EfficientNet.
        mode: ``image``, or ``patch`` for scoring window by window.
        variant: Pretext task: ``normal``, ``scar``, ``union`` or ``3way``.
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes. Not used with a
            pre-processor of your own.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images (the paper's has 256). By default an epoch is one pass.
        compiled: Whether network and augmentations run through ``torch.compile`` in training. Compiling takes about a
            minute; what it gains depends on the device.
        ensemble: Number of networks trained side by side from different random weights, and scored as one by the mean
            of their standardised scores. Training time grows with it.
        lr: Initial learning rate, decayed to zero along a cosine.
        freeze_updates: Updates at the start in which only the head is trained, for pretrained backbones; part of the
            budget, with a cosine of their own.
        finetune_lr: Initial learning rate after ``freeze_updates``. Defaults to ``lr``.
        freeze_batch_norm: Whether the backbone's batch norm keeps its statistics. Defaults to ``pretrained``.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty on all weights.
        area: Patch area as a share of the image's, smallest and largest.
        aspect: Two intervals of the patch's width / height.
        aspect_sampling: ``union`` or ``log``; see :class:`anomalib_ssl.augmentations.CutPaste`.
        patch_jitter: Colour jitter of patches and scars, in [0, 0.5].
        scar_width: Smallest and largest scar width in pixels.
        scar_length: Smallest and largest scar length in pixels.
        scar_angle: Scars are rotated by up to this many degrees either way.
        base_shift: Largest translation of the base image in pixels.
        base_jitter: Colour jitter of the base image, in [0, 0.5].
        reference_size: Shorter image side in pixels to which scar sizes and ``base_shift`` refer; other images scale
            them.
        head_dims: Widths of the pretext head's layers.
        gde_shrinkage: Covariance estimator, ``ridge`` or ``ledoit_wolf``.
        gde_l2norm: Whether pooled features are scaled to unit length before the density.
        score: ``density``, or ``softmax`` for the classifier's probability of a paste (for debugging).
        map_sigma: Gaussian smoothing of the heat map in pixels; 0 for none. Image mode only.
        train_crop_size: Side in pixels of the crops that patch mode is trained on.
        patch_size: Side in pixels of the windows that patch mode scores. The paper says 64 in section 4.2 and 32 in
            appendix A.5.
        stride: Distance in pixels between these windows. The paper's is 4.
        dense: How patch mode computes their features: ``convolutional``, all in one pass, or ``windows``, each by
            itself as in the paper, for which any backbone will do; see
            :class:`~anomalib_ssl.models.cutpaste.patch_model.CutPastePatchModel`.
        per_location: Whether each window's place has a density of its own, for objects that lie alike in every image.
            The paper does so for bottle, cable, capsule, metal_nut, pill, toothbrush, transistor and zipper.
        upsample_sigma: Standard deviation in pixels of patch mode's upsampling kernel.
        normalize_overlap: Whether a pixel of patch mode's map gets the mean of its windows' scores, not their sum.
        window_chunk: Largest number of windows that pass through the network at once.
        window_precision: ``float32``, or ``bfloat16`` for window features under autocast.
        export_map: Whether ONNX and OpenVINO graphs give the heat map besides the score.
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
        >>> from anomalib_ssl import CutPaste
        >>> model = CutPaste(max_updates=10_000, seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        pretrained: bool = False,
        layer: Literal["pool", "level7"] = "pool",
        mode: Literal["image", "patch"] = "image",
        variant: Literal["normal", "scar", "union", "3way"] = "3way",
        image_size: int | tuple[int, int] = 256,
        max_updates: int = 10_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        ensemble: int = 1,
        lr: float = 0.03,
        freeze_updates: int = 0,
        finetune_lr: float | None = None,
        freeze_batch_norm: bool | None = None,
        momentum: float = 0.9,
        weight_decay: float = 3e-5,
        area: tuple[float, float] = (0.02, 0.15),
        aspect: tuple[tuple[float, float], tuple[float, float]] = ((0.3, 1.0), (1.0, 3.3)),
        aspect_sampling: Literal["union", "log"] = "union",
        patch_jitter: float = 0.1,
        scar_width: tuple[int, int] = (2, 16),
        scar_length: tuple[int, int] = (10, 25),
        scar_angle: float = 45.0,
        base_shift: int = 16,
        base_jitter: float = 0.1,
        reference_size: int = 256,
        head_dims: Sequence[int] = (512, 128),
        gde_shrinkage: Literal["ridge", "ledoit_wolf"] = "ridge",
        gde_l2norm: bool = True,
        score: Literal["density", "softmax"] = "density",
        map_sigma: float = 4.0,
        train_crop_size: int = 64,
        patch_size: int = 64,
        stride: int = 8,
        dense: Literal["windows", "convolutional"] = "convolutional",
        per_location: bool = False,
        upsample_sigma: float = 10.0,
        normalize_overlap: bool = True,
        window_chunk: int = 1024,
        window_precision: Literal["float32", "bfloat16"] = "float32",
        export_map: bool = False,
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
        check_choice("mode", mode, ("image", "patch"))
        check_number("ensemble", ensemble, 1)
        check_number("lr", lr, 1e-12)
        check_number("freeze_updates", freeze_updates, 0)
        if finetune_lr is not None:
            check_number("finetune_lr", finetune_lr, 0)
            if freeze_updates == 0:
                msg = f"finetune_lr={finetune_lr} is for what follows freeze_updates, which is 0; set lr instead."
                raise ValueError(msg)
        if mode == "patch":
            check_number("train_crop_size", train_crop_size, 1, min(self.input_size or (height, width)))
        check_number("momentum", momentum, 0, 1)
        check_number("weight_decay", weight_decay, 0)
        # The parts check these too, but under names of their own.
        check_range("scar_width", scar_width, 1)
        check_range("scar_length", scar_length, 1)
        check_number("scar_angle", scar_angle, 0, 180)
        check_number("patch_jitter", patch_jitter, 0, 0.5)
        check_number("base_jitter", base_jitter, 0, 0.5)
        check_number("base_shift", base_shift, 0)
        check_choice("gde_shrinkage", gde_shrinkage, SHRINKAGES)
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.export_map = export_map
        self.freeze_updates = freeze_updates
        self.finetune_lr = lr if finetune_lr is None else finetune_lr
        self.views = CutPasteViews(
            variant,
            patch=augmentations.CutPaste(area, aspect, aspect_sampling, patch_jitter),
            scar=augmentations.CutPasteScar(scar_width, scar_length, scar_angle, patch_jitter, reference_size),
            shift=augmentations.RandomShift(base_shift, reference_size),
            jitter=augmentations.ColorJitter(*[base_jitter] * 4),
            crop=augmentations.RandomCrop(train_crop_size) if mode == "patch" else None,
        )
        shared: dict[str, Any] = {
            "backbone": backbone,
            "pretrained": pretrained,
            "layer": layer,
            "num_classes": self.views.num_classes,
            "head_dims": head_dims,
            "freeze_batch_norm": pretrained if freeze_batch_norm is None else freeze_batch_norm,
            "gde_shrinkage": gde_shrinkage,
            "gde_l2norm": gde_l2norm,
        }

        def build() -> CutPasteNetwork:
            if mode == "image":
                return CutPasteModel(**shared, score=score, map_sigma=map_sigma)
            return CutPastePatchModel(
                self.input_size or (height, width),
                **shared,
                patch_size=patch_size,
                stride=stride,
                dense=dense,
                per_location=per_location,
                upsample_sigma=upsample_sigma,
                normalize_overlap=normalize_overlap,
                window_chunk=window_chunk,
                window_precision=window_precision,
            )

        self.model: CutPasteNetwork | CutPasteEnsemble = (
            build() if ensemble == 1 else CutPasteEnsemble([build() for _ in range(ensemble)])
        )
        self.num_members = ensemble
        self.loss = nn.CrossEntropyLoss()

    def setup(self, stage: str) -> None:
        """Refuse data that cannot be trained on, images smaller than a scar among them, before training starts."""
        super().setup(stage)
        if stage == "fit" and self.input_size is not None:
            # Sampling checks the sizes; a generator of its own leaves the run's random numbers alone.
            self.views(torch.zeros(1, 3, *self.input_size), torch.Generator())

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Classify the views of a batch of normal images, each network views of its own."""
        del args, kwargs
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        self.model.backbone_frozen = self.trainer.global_step < self.freeze_updates
        with augmentations.compiled_augmentations(self.compiled):
            made = [self.views(images) for _ in range(self.num_members)]
        views, labels = made[0] if len(made) == 1 else map(torch.cat, zip(*made, strict=True))
        loss = self.loss(self.train_forward(views).float(), labels)
        self.log("train_loss", loss, prog_bar=True, batch_size=len(images))
        # The mean over all networks' views; each shall learn as from the mean over its own.
        return loss * self.num_members

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD with the learning rate decayed to zero along a cosine over the updates that will really be run."""
        optimizer = torch.optim.SGD(
            self.model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        schedule = fine_tuning_schedule(
            optimizer, total_updates(self.trainer), self.freeze_updates, (1.0, self.finetune_lr / self.lr)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the density of normal features.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. May be gone through repeatedly.

        Raises:
            ValueError: If there are fewer than 2 images.
        """
        training = self.model.training
        self.model.eval()
        self.model.fit(images)
        self.model.train(training)

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX, also on the way to OpenVINO: the score alone, unless ``export_map`` is set."""
        if self.export_map:
            return super().to_onnx(*args, **kwargs)
        with self.model.without_map():
            return super().to_onnx(*args, **kwargs)
