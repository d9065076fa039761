# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""CutPaste as anomalib models, at image level and at patch level.

Li, Sohn, Yoon and Pfister, "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR 2021,
https://arxiv.org/abs/2104.04015.
"""

from dataclasses import replace
from typing import Any, Literal

from anomalib.models import AnomalibModule

from anomalib_ssl.augmentations import RandomCrop
from anomalib_ssl.checks import check_whole
from anomalib_ssl.models.components.feature_scoring import DEFAULTS
from anomalib_ssl.models.cutpaste.patch_model import CutPastePatchModel
from anomalib_ssl.models.cutpaste.torch_model import CutPasteModel
from anomalib_ssl.models.cutpaste.training import CutPasteTraining


class CutPaste(CutPasteTraining, AnomalibModule):
    """CutPaste: classify cut-and-pasted images, score by a Gaussian density of the learned features.

    A network learns to tell normal images from images with a pasted patch (equation 1 of the paper); then a Gaussian is
    fitted to its pooled features of the clean training images, and an image's anomaly score is its negative log-density
    (equation 2). The paper's heat maps are GradCAM on that score (section 4.2).

    From the paper: variant, patch and scar ranges, jitter of patches, and SGD with its rate. This package's choices:
    AdamW by default, score and heat maps by places and random filters, equal exposure and the shorter default budget
    (the paper trains 65,536 updates); and where the paper is silent the head's widths, shift and jitter of the base
    image, the density's scaling and shrinkage, what GradCAM differentiates and the standardisation in ensembles.

    Args:
        layer: Feature map that is scored: ``pool`` for the last, ``level7`` for the paper's other choice on
            EfficientNet.
        score: How images are scored: the paper's ``density`` of pooled features; a map's largest value, the mean of its
            largest tenth or its mean, as in ``places_max``, ``places_top`` and ``places_mean``; or ``auto`` for what
            tells defects planted in held-out images best.
        heat_map: How defects are located: ``places``, how far features of three stages are from the normal ones of the
            same place; ``normed_places``, the same without an image's own contrast; ``filters`` and
            ``fine_filters``, likewise of :class:`~anomalib_ssl.scoring.RandomFilters`; ``places_and_filters``, of both
            together; the paper's ``gradcam``; several joined by ``+``; or ``auto``, chosen likewise.
        **training: Arguments of :class:`~anomalib_ssl.models.cutpaste.training.CutPasteTraining`, and those that all
            models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib.data import MVTecAD
        >>> from anomalib.engine import Engine
        >>> from anomalib_ssl import CutPaste
        >>> model = CutPaste(max_updates=10_000, seed=0)
        >>> Engine().train(model=model, datamodule=MVTecAD(category="bottle"))  # doctest: +SKIP
    """

    scoring_arguments = CutPasteTraining.scoring_arguments | {"heat_map", "score"}

    def __init__(
        self,
        layer: Literal["pool", "level7"] = "pool",
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(**training)
        self.build(CutPasteModel, layer=layer, score=score, heat_map=heat_map, image_size=self.size)


class CutPastePatch(CutPasteTraining, AnomalibModule):
    """CutPaste at patch level: trained on crops, it can score every window of an image.

    The paper's map is ``windows``, the upsampled density of all windows, and its score ``windows_max``, that of the
    worst (section 4.2 of the paper and its appendix A.5).

    From the paper: size of the crops, windows of 32 or 64 pixels and a stride of 4, one density for all windows or one
    for each place. This package's choices: score and map as of :class:`CutPaste` by default, AdamW, equal exposure, the
    convolutional way, its stride of 8, the projection to 100 directions, the upsampling kernel's width and the mean
    over windows that overlap.

    Args:
        crop_size: Side in pixels of the crops that are trained on.
        window_size: Side in pixels of the windows that are scored. The paper says 64 in section 4.2 and 32 in appendix
            A.5.
        stride: Distance in pixels between these windows. The paper's is 4.
        dense: How their features are computed: ``convolutional``, all in one pass, or ``windows``, each by itself as in
            the paper, for which any backbone will do; see
            :class:`~anomalib_ssl.models.cutpaste.patch_model.CutPastePatchModel`.
        per_location: Whether each window's place has a density of its own, for objects that lie alike in every image.
            The paper does so for bottle, cable, capsule, metal_nut, pill, toothbrush, transistor and zipper.
        score: How images are scored: ``windows_max``, the paper's, or as :class:`CutPaste` does.
        heat_map: How defects are located: ``windows``, the paper's, or as :class:`CutPaste` does.
        **training: Arguments of :class:`~anomalib_ssl.models.cutpaste.training.CutPasteTraining`, and those that all
            models share; see :class:`~anomalib_ssl.training.mixin.SelfSupervisedMixin`.

    Raises:
        ValueError: If an argument is outside its limits; the message names it.

    Example:
        >>> from anomalib_ssl import CutPastePatch
        >>> model = CutPastePatch(window_size=32, stride=4, dense="windows", score="windows_max", heat_map="windows")
    """

    # The density is one of such windows, at these places.
    fitted_by = CutPasteTraining.fitted_by | {"dense", "per_location", "stride", "window_size"}
    scoring_arguments = fitted_by | {"heat_map", "score"}

    def __init__(
        self,
        crop_size: int = 64,
        window_size: int = 64,
        stride: int = 8,
        dense: Literal["windows", "convolutional"] = "convolutional",
        per_location: bool = False,
        score: str = DEFAULTS[0],
        heat_map: str = DEFAULTS[1],
        **training: Any,
    ) -> None:
        super().__init__(**training)
        check_whole("crop_size", crop_size, 1, min(self.size))
        self.views = replace(self.views, crop=RandomCrop(crop_size))
        self.build(
            CutPastePatchModel,
            input_size=self.size,
            window_size=window_size,
            stride=stride,
            dense=dense,
            per_location=per_location,
            score=score,
            heat_map=heat_map,
        )
