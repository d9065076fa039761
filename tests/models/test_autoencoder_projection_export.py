# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of AutoencoderProjection, with other scores and maps than the default, against eager ones."""

import numpy as np
import pytest
import torch

from anomalib_ssl import AutoencoderProjection

CHOICES = [("plain_top", "pixels_both"), ("pixels_scaled_mean", "gradient")]

pytestmark = pytest.mark.slow

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def fitted(**kwargs) -> AutoencoderProjection:
    """A model with statistics, whose post-processor has thresholds, as after training."""
    model = AutoencoderProjection(
        **{"image_size": 64, "widths": (4, 6, 8), "sdc_layers": 1, "sdc_width": 4, "seed": 0, "visualizer": False},
        **kwargs,
    )
    # A network whose batch norm has seen images; statistics in evaluation mode are far from those it starts with.
    with torch.no_grad():
        for _ in range(5):
            model.model(torch.rand(8, 3, 64, 64))
        model.eval().fit_statistics(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(4))
        batch = model.model(model.pre_processor(rand_images(4)))
    for name, values in (("image", batch.pred_score), ("pixel", batch.anomaly_map)):
        # A range wide enough for the scores of other images.
        margin = values.max() - values.min()
        getattr(model.post_processor, f"{name}_min").copy_(values.min() - margin)
        getattr(model.post_processor, f"{name}_max").copy_(values.max() + margin)
        getattr(model.post_processor, f"_{name}_threshold").copy_(values.mean())
    return model


def rand_images(batch):
    """Images of different contrast."""
    images = torch.rand(batch, 3, 40, 48, generator=torch.Generator().manual_seed(batch))
    return 0.5 + (images - 0.5) * torch.linspace(0.6, 1, batch).view(-1, 1, 1, 1)


@pytest.mark.parametrize(("score", "heat_map"), CHOICES)
def test_onnx_and_openvino_equal_eager(score, heat_map, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model = fitted(score=score, heat_map=heat_map)
    path = model.to_onnx(tmp_path, input_size=(40, 48))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    graph = openvino.Core().compile_model(openvino.convert_model(path), "CPU", FULL)
    for batch in (1, 4):
        images = rand_images(batch)
        with torch.no_grad():
            expected = model(images)
        maps, scores = expected.anomaly_map.numpy(), expected.pred_score.numpy()
        assert maps.shape == (batch, 1, 64, 64)
        # Of the range that scores are scaled to, and not cut off at its ends.
        assert ((maps > 0) & (maps < 1)).mean() > 0.9
        assert ((scores > 0) & (scores < 1)).all()
        assert maps.std() > 0.01
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, graph(images.numpy())):
            np.testing.assert_allclose(outputs["pred_score"], scores, atol=1e-4)
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4)
