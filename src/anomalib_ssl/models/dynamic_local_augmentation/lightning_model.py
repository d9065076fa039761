# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Contrast against dynamically weighted local augmentations as an anomalib model.

Yoa, Lee, Kim and Kim, "Self-Supervised Learning for Anomaly Detection With Dynamic Local Augmentation", IEEE Access 9,
2021, 147201-147211, https://doi.org/10.1109/ACCESS.2021.3124525.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from anomalib.data import Batch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torchvision.transforms.v2 import CenterCrop, Compose, Resize

from anomalib_ssl.augmentations import LocalAugmentation, RandomShift, compiled_augmentations
from anomalib_ssl.checks import check_choice, check_number
from anomalib_ssl.models.dynamic_local_augmentation import loss as losses
from anomalib_ssl.models.dynamic_local_augmentation.collapse import CollapseMonitor, spread
from anomalib_ssl.models.dynamic_local_augmentation.heads import Projection
from anomalib_ssl.models.dynamic_local_augmentation.selection import augmented_errors, best_alpha, pixel_auroc
from anomalib_ssl.models.dynamic_local_augmentation.torch_model import DynamicLocalAugmentationModel, Embeddings
from anomalib_ssl.models.dynamic_local_augmentation.views import GlobalViews, View, match_by_place
from anomalib_ssl.training.budget import total_updates
from anomalib_ssl.training.clean_images import OTHER_BATCH_SIZE, training_loaders
from anomalib_ssl.training.feed import TrainingFeed
from anomalib_ssl.training.held_out import HeldOut
from anomalib_ssl.training.mixin import SelfSupervisedMixin
from anomalib_ssl.training.schedule import cosine_schedule

COMBINATIONS = ("blend", "sample", "loss")
"""Names of how the weights of the local augmentations enter."""

MATCHES = ("feature", "geometric")
"""Names of how places of two views are matched."""


class TrainingViews(NamedTuple):
    """What the network sees in an update.

    Attributes:
        first: One view of each image.
        second: Another.
        negatives: K locally augmented versions of the first, (K * B, 3, h, w), one batch after the other; none where
            they have no part in the loss.
        weights: What each counts, (B, K); 0 for images that could not be changed.
    """

    first: View
    second: View
    negatives: torch.Tensor | None
    weights: torch.Tensor | None


class DynamicLocalAugmentation(SelfSupervisedMixin, AnomalibModule):
    """Learn equal features of normal images and opposite ones of locally augmented images; score by the distance.

    A network learns without labels that two views of normal images are alike, and that an image is unlike itself with
    one rectangle rotated, discoloured, jumbled or drained of colour, the more so the operation that changes more. An
    image's anomaly map is the distance of its feature maps to the mean ones of the training images, plus how much
    more or less than normal they vary under dropout.

    From the paper's abstract: contrast with dynamically weighted local augmentations as negative samples, and
    uncertainty. By a secondary note on it: ResNet-18 from scratch, SimSiam's losses, three terms with weights of 1, 0.1
    and 0.5, the four operations and sizes of the rectangle, weights by squared change, distance to the mean maps of
    three stages, dropout, ``alphas`` of 1 and 0.1, SGD with momentum and weight decay. Its text was not available:
    everything else is this package's choice, among it how the weights enter, the form of the negative loss, the views,
    place and rate of dropout, ``feature_norm`` and ``score_norm``, the image's score, the learning rate and the budget.

    The datamodule's ``train_batch_size`` is the number of images per update; each gives two views and a negative. A
    batch of a single image is trained on as two of the same.

    Args:
        backbone: Name of a timm network with stages.
        pre_trained: Whether it starts from timm's pretrained weights. The paper's does not, by the note.
        image_size: Side, or height and width, in pixels to which the default pre-processor resizes. Not used with a
            pre-processor of your own.
        center_crop: Side in pixels of the centre that the default pre-processor keeps after that, of images and masks;
            by default everything. 224 of 256 may be what the paper evaluates.
        max_updates: Training budget in optimiser updates. Training ends at the first of this and the Trainer's limits.
        in_memory: Whether training images are decoded and resized once, at the start, and kept in memory as uint8.
        memory_limits: Most GiB of training images kept on the training device, and in pinned host memory where they
            exceed the first. Larger sets are streamed through the datamodule's loader.
        updates_per_epoch: If given, an epoch has this many updates, drawn from consecutive passes over the training
            images. By default an epoch is one pass.
        compiled: Whether network and augmentations run through ``torch.compile`` in training.
        base_lr: Learning rate of SGD for updates of 256 images; it is scaled in proportion to their number, and decayed
            to zero along a cosine. The note's is 0.02, for batches of 200, with which short runs learn next to nothing.
        momentum: Momentum of SGD.
        weight_decay: L2 penalty on all weights.
        global_weight: Weight of the loss that makes pooled features of two views alike.
        dense_weight: Weight of the loss that makes features of matching places alike; 0 leaves the branch out.
        negative_weight: Weight of the loss that makes features of an image and its locally augmented counterpart
            unlike; 0 leaves the branch out.
        negative_margin: Cosine of these below which nothing more is gained; -1 for none.
        cross_image_p: Probability that a view shall be like one of another image of the batch, rather than of its own.
        dense_match: Which places match: those of most similar features (``feature``), or of the same place in the image
            (``geometric``).
        dense_layer: Stage whose map the dense branch sees.
        dense_grid: Most rows and columns of it; larger maps are averaged down.
        proj_dim: Length of projections of pooled features.
        dense_dim: Length of projections of places.
        share_negative_head: Whether negatives use the head of the positives instead of one of their own.
        global_views: ``mild`` or ``simsiam``; see
            :class:`~anomalib_ssl.models.dynamic_local_augmentation.views.GlobalViews`.
        view_crop: Height and width of a view as a share of the image's.
        view_shift: Largest translation of an image before, in pixels, borders mirrored; ``mild`` views only.
        region: Smallest and largest side in pixels of the rectangle that is augmented.
        reference_size: Shorter image side in pixels to which ``region`` and ``view_shift`` refer; other images scale
            them.
        operations: What is done to it: ``rotation``, ``jitter``, ``permutation``, ``grayscale``.
        weighting: ``dynamic``, or ``static`` for equal weights.
        combine: How the weights enter: ``blend`` mixes the results of the operations, ``sample`` draws one of them,
            ``loss`` makes one negative of each and weighs their losses.
        min_change: Least mean squared change by an operation for which an image counts as augmented.
        tries: Number of places drawn for a rectangle until it changes that much.
        score_layers: Stages that are scored.
        dropout_p: Probability of dropout inside the blocks, in training and for uncertainty.
        dropout_kind: What is dropped, a ``channel`` or an ``element``.
        mc_samples: Number of passes with dropout that the variance is taken over; 0 for no uncertainty.
        mc_masks: ``fixed`` for the same masks at each call, which can be exported, or ``random`` for literal
            Monte-Carlo dropout.
        mc_chunk: Passes that go through the network at once: more are faster on a GPU and take more memory.
        mu_mode: Mean maps by ``position``, for products that lie alike in every image, or by ``channel``, for textures
            and turned objects.
        feature_norm: What is done to feature maps before comparison: ``image`` brings each channel to a mean of 0
            and a standard deviation of 1 over the image, so that its light and contrast count for little; ``unit``
            brings the features of each place to length 1; ``none``, as the note has it, leaves them as they are.
        score_norm: ``train`` divides the errors of each stage by their mean over the training images, so that stages,
            and ``alphas``, are comparable; ``variance`` divides distances of each place and channel by how much these
            vary over the training images as well; ``none``, as the note has it, leaves errors as they are.
        alphas: Weights of distance and uncertainty in the score.
        select_alphas: Whether the weight of uncertainty is chosen at each validation, by the augmented held-out images.
        map_sigma: Gaussian smoothing of the map in pixels; 0 for none.
        score_sigma: Gaussian smoothing of the map before its maximum is taken as the image's score.
        held_out_share: Share of the training images that is not trained on but held out to measure with, at least one
            and at most 100; 0 for none. None of fewer than 10 images. Validation and test images are never used.
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
        >>> from anomalib_ssl import DynamicLocalAugmentation
        >>> model = DynamicLocalAugmentation(seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    loss: losses.ContrastiveLoss

    def __init__(
        self,
        backbone: str = "resnet18",
        pre_trained: bool = False,
        image_size: int | tuple[int, int] = 256,
        center_crop: int | None = None,
        max_updates: int = 2_000,
        in_memory: bool = True,
        memory_limits: tuple[float, float] = (4.0, 16.0),
        updates_per_epoch: int | None = None,
        compiled: bool = False,
        base_lr: float = 0.5,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        global_weight: float = 1.0,
        dense_weight: float = 0.1,
        negative_weight: float = 0.5,
        negative_margin: float = -1.0,
        cross_image_p: float = 0.5,
        dense_match: Literal["feature", "geometric"] = "feature",
        dense_layer: str = "layer2",
        dense_grid: int = 14,
        proj_dim: int = 2048,
        dense_dim: int = 128,
        share_negative_head: bool = False,
        global_views: Literal["mild", "simsiam"] = "mild",
        view_crop: float = 0.875,
        view_shift: int = 0,
        region: tuple[int, int] = (50, 128),
        reference_size: int = 256,
        operations: Sequence[str] = ("rotation", "jitter", "permutation", "grayscale"),
        weighting: Literal["dynamic", "static"] = "dynamic",
        combine: Literal["blend", "sample", "loss"] = "blend",
        min_change: float = 1e-3,
        tries: int = 10,
        score_layers: Sequence[str] = ("layer1", "layer2", "layer3"),
        dropout_p: float = 0.1,
        dropout_kind: Literal["channel", "element"] = "channel",
        mc_samples: int = 10,
        mc_masks: Literal["fixed", "random"] = "fixed",
        mc_chunk: int = 4,
        mu_mode: Literal["position", "channel"] = "position",
        feature_norm: Literal["none", "unit", "image"] = "image",
        score_norm: Literal["none", "train", "variance"] = "variance",
        alphas: tuple[float, float] = (1.0, 0.1),
        select_alphas: bool = False,
        map_sigma: float = 0.0,
        score_sigma: float = 4.0,
        held_out_share: float = 0.1,
        seed: int | None = None,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        check_number("image_size", min(height, width), 32)
        if center_crop is not None:
            check_number("center_crop", center_crop, 32, min(height, width))
        super().__init__(
            pre_processor=_default_pre_processor((height, width), center_crop)
            if pre_processor is True
            else pre_processor,
            post_processor=post_processor,
            evaluator=evaluator,
            visualizer=visualizer,
        )
        self.prepare_training(max_updates, in_memory, memory_limits, updates_per_epoch, compiled, seed)
        check_number("base_lr", base_lr, 1e-12)
        check_number("momentum", momentum, 0, 1)
        check_number("weight_decay", weight_decay, 0)
        check_number("cross_image_p", cross_image_p, 0, 1)
        check_number("view_shift", view_shift, 0)
        check_choice("dense_match", dense_match, MATCHES)
        check_choice("combine", combine, COMBINATIONS)
        HeldOut(held_out_share)
        self.base_lr = base_lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.cross_image_p = cross_image_p
        self.dense_match = dense_match
        self.combine = combine
        self.select_alphas = select_alphas
        self.mc_masks = mc_masks
        self.held_out_share = held_out_share
        self.loss = losses.ContrastiveLoss(global_weight, dense_weight, negative_weight, negative_margin)
        # Of the whole image: what is cut off does not make the rest smaller.
        scale = 1.0 if center_crop is None or pre_processor is not True else center_crop / min(height, width)
        self.views = GlobalViews(global_views, view_crop, RandomShift(view_shift, reference_size * scale))
        self.local = LocalAugmentation(
            (region[0], region[1]),
            reference_size * scale,
            tuple(operations),
            weighting,
            "sample" if combine == "sample" else "blend",
            min_change=min_change,
            tries=tries,
        )
        self.model: DynamicLocalAugmentationModel = DynamicLocalAugmentationModel(
            self.input_size or (height, width),
            proj_dim=proj_dim,
            dense_dim=dense_dim,
            dense_grid=dense_grid,
            share_negative_head=share_negative_head,
            use_dense=dense_weight > 0,
            use_negative=negative_weight > 0,
            mu_mode=mu_mode,
            feature_norm=feature_norm,
            score_norm=score_norm,
            alphas=alphas,
            keep_alphas=select_alphas,
            mc_chunk=mc_chunk,
            map_sigma=map_sigma,
            score_sigma=score_sigma,
            backbone=backbone,
            pre_trained=pre_trained,
            score_layers=score_layers,
            dense_layer=dense_layer,
            dropout_p=dropout_p,
            dropout_kind=dropout_kind,
            mc_samples=mc_samples,
            mc_masks=mc_masks,
        )
        if select_alphas and (alphas[0] == 0 or self.model.mc_samples == 0 or held_out_share == 0):
            msg = "select_alphas needs held-out images, uncertainty, and a weight of distance above 0 in alphas."
            raise ValueError(msg)
        self._held_out: HeldOut | None = None
        self._monitor = CollapseMonitor()

    def configure_callbacks(self) -> Sequence[Callback]:
        """Set images aside before anything reads them."""
        self._held_out = HeldOut(self.held_out_share)
        return [self._held_out, *super().configure_callbacks()]

    def setup(self, stage: str) -> None:
        """Refuse data that cannot be trained on before training starts."""
        super().setup(stage)
        if stage == "fit" and self.input_size is not None:
            # Sampling checks the sizes; a generator of its own leaves the run's random numbers alone.
            self.training_views(torch.zeros(2, 3, *self.input_size), torch.Generator())

    def on_train_start(self) -> None:
        """Train in training mode, also a model that was scored with before: Lightning leaves modes as they are."""
        super().on_train_start()
        self.model.train()
        self._monitor = CollapseMonitor()

    def training_step(self, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compare views of a batch of normal images with each other and with their augmented counterparts."""
        del args, kwargs
        images: torch.Tensor = batch.image  # type: ignore[assignment]
        if len(images) == 1:
            # Batch norm cannot do with a single image.
            images = images.repeat(2, 1, 1, 1)
        views = self.training_views(images)
        positives = torch.cat([views.first.images, views.second.images])
        stacked = positives if views.negatives is None else torch.cat([positives, views.negatives])
        embeddings: Embeddings = self.train_forward(stacked, len(positives))
        with torch.autocast(images.device.type, enabled=False):
            terms = self.compare(embeddings, views)
        self.log("train_loss", terms.total, prog_bar=True, batch_size=len(images))
        spreading = spread(embeddings.global_.projected)
        self._monitor.update(spreading)
        used = {"global": 1.0, "dense": self.loss.dense_weight, "negative": self.loss.negative_weight}
        values = {"global": terms.global_, "dense": terms.dense, "negative": terms.negative}
        logged = {f"train_{name}_loss": values[name] for name, weight in used.items() if weight > 0}
        self.log_dict({**logged, "train_projection_spread": spreading}, batch_size=len(images))
        total: torch.Tensor = terms.total
        return total

    @torch.no_grad()
    def training_views(self, images: torch.Tensor, generator: torch.Generator | None = None) -> TrainingViews:
        """Make two views of each image, and the locally augmented versions of the first.

        Args:
            images: Normal images (B, 3, H, W), values in [0, 1].
            generator: Source of randomness on the images' device.
        """
        # In full precision, so that pixels outside of the rectangles stay as they are.
        with torch.autocast(images.device.type, enabled=False), compiled_augmentations(self.compiled):
            first, second = self.views(images, generator), self.views(images, generator)
            if self.loss.negative_weight == 0:
                return TrainingViews(first, second, None, None)
            # A view is a part of the image, not a smaller one.
            share = min(first.images.shape[-2:]) / min(images.shape[-2:])
            augment = replace(self.local, reference_size=(self.local.reference_size or 1) * share)
            if self.combine == "loss":
                parameters = augment.sample(first.images.shape, images.device, generator)
                negatives, weights, _ = augment.separate(first.images, parameters)
                return TrainingViews(first, second, negatives.flatten(0, 1), weights)
            negatives, masks = augment(first.images, generator)
            return TrainingViews(first, second, negatives, masks.flatten(1).any(dim=1, keepdim=True).float())

    def compare(self, embeddings: Embeddings, views: TrainingViews) -> losses.LossTerms:
        """Work out the loss of what the network made of views."""
        count = len(views.first.images)

        def halves(projection: Projection) -> tuple[Projection, Projection]:
            return (
                Projection(*(values[:count] for values in projection)),
                Projection(*(values[count:] for values in projection)),
            )

        partners = losses.draw_partners(count, self.cross_image_p, views.first.images.device)
        global_ = losses.global_loss(*halves(embeddings.global_), partners)
        dense = negative = None
        if embeddings.dense is not None and embeddings.dense_features is not None:
            dense = losses.dense_loss(*halves(embeddings.dense), *self._matches(embeddings.dense_features, views))
        if embeddings.negative is not None and views.weights is not None:
            negative = losses.negative_loss(*halves(embeddings.negative), views.weights, self.loss.margin)
        terms: losses.LossTerms = self.loss(global_, dense, negative)
        return terms

    def _matches(self, features: torch.Tensor, views: TrainingViews) -> tuple[torch.Tensor, torch.Tensor]:
        """For each place of the first view that of the second, and the other way round."""
        first, second = features.detach().chunk(2)
        if self.dense_match == "feature":
            return losses.match_by_feature(first, second), losses.match_by_feature(second, first)
        grid = features.shape[-2], features.shape[-1]
        return match_by_place(views.first, views.second, grid), match_by_place(views.second, views.first, grid)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """SGD, its rate in proportion to the images per update, decayed to zero along a cosine."""
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=self.base_lr * self._images_per_update() / 256,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        schedule = cosine_schedule(optimizer, total_updates(self.trainer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _images_per_update(self) -> int:
        loader = training_loaders(self.trainer)[0]
        loader = loader.loader if isinstance(loader, TrainingFeed) else loader
        dataset: Any = loader.dataset
        images = min(loader.batch_size or OTHER_BATCH_SIZE, len(dataset))
        return images * self.trainer.accumulate_grad_batches * self.trainer.world_size

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor]) -> None:
        """Fit the mean feature maps.

        Args:
            images: Clean training images in batches (B, 3, H, W), values in [0, 1]. Gone through once.

        Raises:
            ValueError: If there are no images, or the training has diverged.
        """
        training = self.model.training
        self.model.eval()
        with torch.autocast(self.device.type, enabled=False):
            self.model.fit(images)
        self.model.train(training)

    def on_validation_epoch_start(self) -> None:
        """Measure with the held-out images, now that statistics are fitted."""
        super().on_validation_epoch_start()
        if self.trainer.state.fn != TrainerFn.FITTING:
            return
        for name, deviation in self.model.deviations.items():
            errors = zip(self.model.encoder.score_names, deviation.mean_errors, strict=True)
            self.log_dict({f"normal_{name}_{stage}": error for stage, error in errors})
        if self._held_out is not None and self._held_out.is_active:
            self.log_dict(self.held_out_metrics(self._held_out.images(self.trainer, self)))

    @torch.no_grad()
    def held_out_metrics(self, images: Iterable[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Measure how well local augmentations are found, with the same ones each time, and choose ``alphas``.

        These are what was trained on: good numbers do not promise that defects are found.

        Args:
            images: Clean images that were not trained on, in batches (B, 3, H, W), values in [0, 1]. Fewer than 32 are
                gone through repeatedly.

        Returns:
            ``held_out_pixel_AUROC`` of the map before smoothing, against the masks of the augmentations; the same of
            ``distance`` and ``uncertainty`` alone; and ``held_out_uncertainty_share``, the share of the latter in the
            map's sum. With ``select_alphas`` also the ``uncertainty_alpha`` that was chosen. Nothing where no image
            could be changed.

        Raises:
            ValueError: If there are no images.
        """
        training = self.model.training
        self.model.eval()
        with torch.autocast(self.device.type, enabled=False):
            distance, uncertainty, masks = augmented_errors(self.model, images, self.local)
        self.model.train(training)
        if not masks.any():
            return {}
        alphas = self.model.alphas
        metrics = {"held_out_distance_pixel_AUROC": pixel_auroc(distance, masks)}
        total = alphas[0] * distance
        if uncertainty is not None:
            metrics["held_out_uncertainty_pixel_AUROC"] = pixel_auroc(uncertainty, masks)
            if self.select_alphas:
                # Ranks depend on the ratio alone.
                alphas[1] = alphas[0] * best_alpha(distance, uncertainty, masks)
                metrics["uncertainty_alpha"] = alphas[1].clone()
            total = alphas[0] * distance + alphas[1] * uncertainty
            metrics["held_out_uncertainty_share"] = (alphas[1] * uncertainty).sum() / total.sum()
        metrics["held_out_pixel_AUROC"] = pixel_auroc(total, masks)
        return metrics

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX, also on the way to OpenVINO.

        Raises:
            ValueError: If the masks of dropout are random, which graphs cannot be.
        """
        if self.model.mc_samples > 0 and self.mc_masks == "random":
            msg = "mc_masks='random' cannot be exported; load the checkpoint with mc_masks='fixed' or alphas=(1, 0)."
            raise ValueError(msg)
        return super().to_onnx(*args, **kwargs)


def _default_pre_processor(size: tuple[int, int], center_crop: int | None) -> PreProcessor:
    if center_crop is None:
        return SelfSupervisedMixin.configure_pre_processor(size)
    return PreProcessor(transform=Compose([Resize(size, antialias=True), CenterCrop(center_crop)]))
