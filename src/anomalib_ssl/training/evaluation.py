# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What all models do once they are trained: statistics of clean images, scores, a look inside, and export."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import AnomalibDataModule, Batch
from anomalib.deploy import CompressionType
from torch import nn

from anomalib_ssl.inspection import Column, Inspection, scored_map
from anomalib_ssl.scoring.exposure import Exposure
from anomalib_ssl.scoring.fitted import NotFittedError, is_unfitted
from anomalib_ssl.training.quantization import calibration_data, quantize

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

    Base = AnomalibModule
else:
    Base = object

ONNX_OPSET = 18
"""Operator set of exported graphs."""

LOWER_RATE = "Train again with a lower learning rate."


class EvaluationMixin(Base):
    """Score by ``self.model``, in evaluation mode and full precision whatever the Trainer's precision.

    Attributes:
        equal_exposure: Whether images are brought to the mean brightness of the training images before they are scored.
        exports_map: Whether ONNX and OpenVINO graphs give the heat map besides the score.
    """

    equal_exposure: bool
    exports_map = True

    @torch.no_grad()
    def fit_statistics(self, images: Iterable[torch.Tensor], held_out: Iterable[torch.Tensor] = ()) -> None:
        """Estimate what scoring needs, in evaluation mode and full precision; modes are given back.

        Args:
            images: Clean training images in batches (B, C, H, W), values in [0, 1]. May be gone through repeatedly.
            held_out: Clean images that were not trained on, likewise.

        Raises:
            ValueError: If there are too few, or what is estimated is not finite because training has diverged.
        """
        with self.scoring_mode():
            exposure: Exposure = self.model.exposure  # type: ignore[assignment]
            exposure.fit(images if self.equal_exposure else ())
            self.model.fit(exposure.of(images), exposure.of(held_out))  # type: ignore[operator]
        values = [value for value in self.model.state_dict().values() if value.is_floating_point()]
        if not torch.stack([value.isfinite().all() for value in values]).all():
            msg = f"Weights or statistics of {type(self).__name__} are not finite: training has diverged. {LOWER_RATE}"
            raise ValueError(msg)

    @property
    def held_out_metrics(self) -> Mapping[str, float]:
        """How well planted defects are told from sound images, by name: ``image_AUROC`` and ``pixel_AUROC``.

        Candidates that are joined are judged by default only.
        """
        scorer = getattr(self.model, "scorer", None)
        if scorer is None or not scorer.judged_scores:
            return {}
        score, heat_map = scorer.chosen
        found = {"image_AUROC": scorer.judged_scores.get(score), "pixel_AUROC": scorer.judged_maps.get(heat_map)}
        return {name: value for name, value in found.items() if value is not None}

    def inspect(self, images: torch.Tensor) -> Inspection:
        """Show what the model does inside; to be called in :meth:`scoring_mode` and without gradients.

        Random numbers come from torch's global generators, as in training.

        Args:
            images: Shape (B, 3, H, W), values in [0, 1], on the model's device.

        Returns:
            Pictures and numbers: here the map and the score of each image; models show what is theirs.
        """
        scored = self.model(images)
        numbers = [{"image": str(row), "score": score} for row, score in enumerate(scored.pred_score.tolist(), start=1)]
        return Inspection([Column("input", images), scored_map(images, scored)], numbers)

    @contextmanager
    def scoring_mode(self) -> Iterator[None]:
        """Evaluation mode in full precision: scores compare small distances, and exported models have it too."""
        training = self.model.training
        self.model.eval()
        try:
            with torch.autocast(self.device.type, enabled=False):
                yield
        finally:
            self.model.train(training)

    def score_batch(self, batch: Batch) -> Batch:
        """Score a batch, in evaluation mode and full precision."""
        return batch.update(**self.model(batch.image)._asdict())

    def predict_step(self, batch: Any, *args: Any, **kwargs: Any) -> Any:
        """Score a batch to validate, to test or to predict.

        Raises:
            ValueError: If scores are not finite.
        """
        del args, kwargs
        with torch.autocast(self.device.type, enabled=False):
            scored = self.score_batch(batch)
        found = [value for value in (scored.pred_score, scored.anomaly_map) if value is not None]
        if not torch.stack([value.isfinite().all() for value in found]).all():
            msg = f"{type(self).__name__} gives scores that are not finite: its training has diverged. {LOWER_RATE}"
            raise ValueError(msg)
        return scored

    validation_step = test_step = predict_step

    def to_torch(self, *args: Any, **kwargs: Any) -> Path:
        """Export to torch as anomalib does.

        Raises:
            NotFittedError: If the model has not been trained.
        """
        if is_unfitted(self):
            msg = f"{type(self).__name__} has nothing to score with yet: train it, or give ckpt_path, to export it."
            raise NotFittedError(msg)
        return super().to_torch(*args, **kwargs)

    def to_onnx(self, *args: Any, **kwargs: Any) -> Path:  # type: ignore[override]
        """Export to ONNX as anomalib does, also on the way to OpenVINO, of operator set 18 unless told otherwise.

        PyTorch writes these models in 18. With anomalib's default, 14, it tries to convert them, prints a traceback and
        leaves them in 18.
        """
        with nullcontext() if self.exports_map else _without_map(self.model):
            path: Path = super().to_onnx(*args, **{"opset_version": ONNX_OPSET, **kwargs})
        return path

    def to_openvino(
        self,
        export_root: Path | str,
        model_file_name: str = "model",
        input_size: tuple[int, int] | None = None,
        compression_type: CompressionType | None = None,
        datamodule: AnomalibDataModule | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Path:
        """Export to OpenVINO as anomalib does; of ``INT8_PTQ`` the network alone computes in 8 bits.

        Raises:
            ModuleNotFoundError: If NNCF is not installed, with ``INT8_PTQ``.
            ValueError: If there is no datamodule, likewise.
        """
        where = (export_root, model_file_name, input_size)
        if compression_type != CompressionType.INT8_PTQ:
            return super().to_openvino(*where, compression_type, datamodule, *args, **kwargs)
        images = calibration_data(datamodule)
        path: Path = super().to_openvino(*where, None, None, *args, **kwargs)
        quantize(path, images)
        return path


@contextmanager
def _without_map(model: nn.Module) -> Iterator[None]:
    """Let a model give scores alone; what only the map needs is no part of a graph that is traced meanwhile."""
    handle = model.register_forward_hook(lambda _module, _inputs, output: output._replace(anomaly_map=None))
    try:
        yield
    finally:
        handle.remove()
