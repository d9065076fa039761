# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Keeps small copies of test images, masks and anomaly maps for the gallery of a report."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from anomalib.visualization.base import Visualizer
from PIL import Image
from torch.nn.functional import adaptive_max_pool2d, interpolate
from torchvision.transforms.v2 import CenterCrop

from anomalib_ssl.training.images.transforms import steps


class PictureCollector(Visualizer):
    """Takes the place of a model's visualizer: it sees each test batch with its final scores and maps.

    Args:
        size: Side of the copies in pixels; 0 keeps none.

    Attributes:
        resolution: Height and width of the images that the network saw, once there was a test batch.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.resolution: tuple[int, int] | None = None
        self._maps: list[npt.NDArray[np.uint16]] = []
        self._masks: list[npt.NDArray[np.bool_]] = []
        self._paths: list[str] = []
        self._scores: list[float] = []
        self._raw_scores: list[float] = []
        self._labels: list[bool] = []

    def on_test_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Keep the pictures of a batch."""
        del trainer, pl_module, args, kwargs
        height, width = outputs.image.shape[-2:]
        self.resolution = (height, width)
        if not self.size or outputs.anomaly_map is None or outputs.image_path is None or outputs.gt_label is None:
            return
        shape = (self.size, self.size)
        maps = _with_channel(outputs.anomaly_map).nan_to_num()
        smaller = interpolate(maps, shape, mode="area" if self.size <= min(maps.shape[-2:]) else "bilinear")
        # 16 bits: where a few scores are far above all others, normalisation leaves the others close together.
        self._maps.extend((65535 * smaller.clamp(0, 1)).round().squeeze(1).cpu().numpy().astype(np.uint16))
        if outputs.gt_mask is not None:
            # The largest value of a cell: a scratch of one pixel must not vanish.
            masks = adaptive_max_pool2d(_with_channel(outputs.gt_mask), shape)
            self._masks.extend((masks > 0).squeeze(1).cpu().numpy())
        self._paths.extend(str(path) for path in outputs.image_path)
        self._scores.extend(outputs.pred_score.float().reshape(-1).cpu().tolist())
        self._raw_scores.extend(outputs.raw_score.reshape(-1).cpu().tolist())
        self._labels.extend(outputs.gt_label.reshape(-1).bool().cpu().tolist())

    def files(self, names: tuple[str, str], pre_processor: Any) -> dict[str, bytes]:
        """Write what was kept.

        Args:
            names: Names of the file of maps, and of that of images, which all models share.
            pre_processor: What images went through; with a crop among it there is nothing to share.

        Returns:
            Contents by file name. Empty if nothing was kept.
        """
        if not self._maps or any(
            isinstance(step, CenterCrop) for step in steps(getattr(pre_processor, "transform", None))
        ):
            return {}
        shown = np.array([_short(path) for path in self._paths])
        maps = _compressed(
            names=shown,
            maps=np.stack(self._maps),
            scores=np.array(self._scores),
            raw_scores=np.array(self._raw_scores),
            labels=np.array(self._labels),
        )
        images = {"names": shown, "labels": np.array(self._labels), "images": self._images()}
        if len(self._masks) == len(self._maps):
            images["masks"] = np.stack(self._masks)
        return dict(zip(names, (maps, _compressed(**images)), strict=True))

    def _images(self) -> npt.NDArray[np.uint8]:
        """Read the images from their files: those in a batch may be normalised."""
        shape = (self.size, self.size)
        pictures = []
        for path in self._paths:
            with Image.open(path) as image:
                pictures.append(np.asarray(image.convert("RGB").resize(shape, Image.Resampling.BOX)))
        return np.stack(pictures)


def _with_channel(images: torch.Tensor) -> torch.Tensor:
    """Bring (B, H, W) or (B, 1, H, W) into the latter shape, in float32."""
    return images.detach().float().reshape(len(images), 1, *images.shape[-2:])


def _short(path: str) -> str:
    """The folder, which names the defect, and the file."""
    return "/".join(Path(path).parts[-2:])


def _compressed(**arrays: npt.NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
