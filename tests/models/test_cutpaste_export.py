# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of CutPaste against eager scores."""

import numpy as np
import pytest
import torch

from anomalib_ssl import CutPaste


@pytest.fixture(scope="module")
def model() -> CutPaste:
    """A fitted model whose post-processor has thresholds, as after training."""
    model = CutPaste(backbone="resnet10t", image_size=64, seed=0, visualizer=False).eval()
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.fit_statistics(images.split(4))
    with torch.no_grad():
        batch = model.model(torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    post_processor = model.post_processor
    for name, values in (("image", batch.pred_score), ("pixel", batch.anomaly_map)):
        getattr(post_processor, f"{name}_min").copy_(values.min())
        getattr(post_processor, f"{name}_max").copy_(values.max())
        getattr(post_processor, f"_{name}_threshold").copy_(values.mean())
    return model


def rand_images(batch):
    return torch.rand(batch, 3, 80, 96, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("batch", [1, 4])
def test_openvino_equals_eager(model, tmp_path, batch):
    openvino = pytest.importorskip("openvino")
    path = model.to_openvino(tmp_path, input_size=(80, 96))
    graph = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = graph(rand_images(batch).numpy())
    with torch.no_grad():
        expected = model(rand_images(batch))
    assert {output.get_any_name() for output in graph.outputs} == {"pred_score", "pred_label"}
    np.testing.assert_allclose(outputs["pred_score"], expected.pred_score.numpy(), atol=1e-4)
    # The model itself still localises.
    assert expected.anomaly_map is not None


def test_onnx_with_heat_map_equals_eager(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    model.export_map = True
    try:
        path = model.to_onnx(tmp_path, input_size=(80, 96))
    finally:
        model.export_map = False
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"input": rand_images(3).numpy()}), strict=True))
    with torch.no_grad():
        expected = model(rand_images(3))
    np.testing.assert_allclose(outputs["pred_score"], expected.pred_score.numpy(), atol=1e-4)
    np.testing.assert_allclose(outputs["anomaly_map"], expected.anomaly_map.numpy(), atol=1e-4)
