# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What the autoencoder makes of images and of corrupted ones, and how close it comes to an orthogonal projection."""

import torch

from anomalib_ssl.augmentations import LocalCorruption
from anomalib_ssl.inspection import Column, Inspection, scored_map
from anomalib_ssl.models.autoencoder_projection import diagnostics
from anomalib_ssl.models.autoencoder_projection.torch_model import AutoencoderProjectionModel
from anomalib_ssl.scoring import squared_error

PROPERTIES = {
    "fixed_point": ("fixed point", "0", "RMS of f(x) - x"),
    "recovery": ("recovery", "below 1", "|r - x| / |x_hat - x|"),
    "idempotence": ("idempotence", "0", "|f(r) - r| / |r - x_hat|"),
    "conservation": ("conservation", "at most 1", "|r - x_hat| / |x - x_hat|"),
    "nearest": ("nearest image", "at most 1", "|r - x_hat| / |y - x_hat|"),
    "locality": ("locality", "0", "RMS of r - x_hat, outside / inside"),
    "jacobian_symmetry": ("Jacobian symmetry", "1", "cosine of J u and J' u"),
    "jacobian_idempotence": ("Jacobian idempotence", "0", "|J J u - J u| / |J u|"),
}
"""Title, value of an orthogonal projection, and formula of each property."""

NOTE = (
    "x: image; x_hat: the same, corrupted; r = f(x_hat): restored; y: the image nearest to x_hat; inside: the "
    "corrupted region; J: derivative of f at x; u: random direction. The values of a projection are for normal images."
)


def inspect(model: AutoencoderProjectionModel, corruption: LocalCorruption, images: torch.Tensor) -> Inspection:
    """Restore images and corrupted copies, and compare that with an orthogonal projection onto the normal images.

    Args:
        model: A fitted model in evaluation mode.
        corruption: What makes the copies.
        images: Shape (B, 3, H, W), values in [0, 1].

    Returns:
        Of either image, restoration, error and map; means and quantiles of all properties over the images.
    """
    corrupted, masks = corruption(images)

    def answer(shown: torch.Tensor, title: str) -> list[Column]:
        restored, scored = model.reconstruct_and_score(model.exposure(shown))
        # As bright as the image that it is shown beside.
        restored = restored / model.exposure.gain(shown)
        error = squared_error(shown, restored).sqrt()
        return [Column("restored", restored), Column("error", error), scored_map(shown, scored, title)]

    columns = [Column("input", images), *answer(images, "map")]
    columns += [Column("corrupted", corrupted, outlined=masks), *answer(corrupted, "map, corrupted")]
    numbers = []
    for name, values in diagnostics.measure(model.autoencoder, images, corrupted, masks).items():
        title, ideal, formula = PROPERTIES[name]
        low, median, high = values.quantile(values.new_tensor([0.1, 0.5, 0.9])).tolist()
        spread = {"mean": float(values.mean()), "10 %": low, "median": median, "90 %": high}
        numbers.append({"property": title, "projection": ideal, **spread, "formula": formula})
    return Inspection(columns, numbers, NOTE)
