# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Pictures of reconstructions and their errors beside those that anomalib draws."""

from pathlib import Path
from typing import Any

import torch
from anomalib.data import ImageBatch, ImageItem
from anomalib.utils.path import generate_output_filename
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.functional import (
    add_text_to_image,
    create_image_grid,
    visualize_anomaly_map,
    visualize_image,
)
from lightning.pytorch import Trainer
from PIL import Image

from anomalib_ssl.scoring import squared_error

ERROR_RANGE = 0.25
"""Error shown in the colour at the upper end, for images in [0, 1]."""


class ReconstructionVisualizer(ImageVisualizer):
    """anomalib's pictures of each image, and after them its reconstruction and the error of every pixel.

    The error is the root of the mean squared difference over the channels. Its colours mean the same in all pictures:
    from 0 to :data:`ERROR_RANGE`. Arguments are those of anomalib's ``ImageVisualizer``.
    """

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: Any,
        outputs: Any,
        batch: ImageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw and save the images of a batch; also called for batches of a prediction."""
        reconstructions = getattr(batch, "reconstruction", None)
        if reconstructions is None:
            super().on_test_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
            return
        datamodule = getattr(trainer, "datamodule", None)
        self.output_dir = self.output_dir or Path(trainer.default_root_dir) / "images"
        for item, reconstruction in zip(batch, reconstructions, strict=True):
            filename = generate_output_filename(
                input_path=item.image_path or "",
                output_path=self.output_dir,
                dataset_name=getattr(datamodule, "name", None),
                category=getattr(datamodule, "category", None),
            )
            self.draw(item, reconstruction).save(filename)

    def draw(self, item: ImageItem, reconstruction: torch.Tensor) -> Image.Image:
        """Draw one image.

        Args:
            item: The image, with predictions.
            reconstruction: Shape (3, H, W), values in [0, 1].

        Returns:
            A row of pictures.
        """
        image: Any = item.image
        error = squared_error(image.unsqueeze(0), reconstruction.unsqueeze(0)).sqrt().div(ERROR_RANGE).clamp(0, 1)
        ours = [
            self._panel(visualize_image(reconstruction.cpu().clamp(0, 1)), "Reconstruction"),
            self._panel(visualize_anomaly_map(error[0].cpu()), "Error"),
        ]
        theirs = self.visualize(item)
        grid = create_image_grid(ours, nrow=len(ours))
        return _beside([theirs, grid]) if isinstance(theirs, Image.Image) else grid

    def _panel(self, picture: Image.Image, title: str) -> Image.Image:
        picture = picture.resize(self.field_size)
        text = dict(self.text_config)
        return add_text_to_image(picture, title, **text) if text.pop("enable", True) else picture


def _beside(pictures: list[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (sum(picture.width for picture in pictures), max(picture.height for picture in pictures)))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width
    return row
