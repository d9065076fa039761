# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of DynamicLocalAugmentation, the passes with dropout inside, against eager maps and scores."""

import numpy as np
import pytest
import torch

from anomalib_ssl import DynamicLocalAugmentation

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def rand_images(batch):
    """Images of different contrast."""
    images = torch.rand(batch, 3, 72, 80, generator=torch.Generator().manual_seed(batch))
    return 0.5 + (images - 0.5) * torch.linspace(0.6, 1, batch).view(-1, 1, 1, 1)


@pytest.fixture(scope="module")
def model() -> DynamicLocalAugmentation:
    """A model with statistics and uncertainty that counts, whose scores are not rescaled."""
    model = DynamicLocalAugmentation(
        backbone="test_resnet",
        image_size=64,
        proj_dim=16,
        dense_dim=8,
        score_layers=("layer1", "layer2"),
        mc_samples=2,
        mc_chunk=2,
        alphas=(1.0, 1.0),
        map_sigma=2.0,
        seed=0,
        visualizer=False,
        post_processor=False,
        evaluator=False,
    )
    # Batch norm that has seen images.
    with torch.no_grad():
        for _ in range(5):
            model.model(torch.rand(8, 3, 64, 64))
    model.eval().fit_statistics(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(4))
    return model


def test_onnx_and_openvino_equal_eager(model, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    path = model.to_onnx(tmp_path, input_size=(72, 80))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    assert names == ["pred_score", "anomaly_map"]
    graphs = [openvino.Core().compile_model(graph, "CPU", FULL) for graph in (path, openvino.convert_model(path))]
    for batch in (1, 4):
        images = rand_images(batch)
        with torch.no_grad():
            expected = model(images)
            distance, uncertainty = model.model.error_maps(model.pre_processor(images))
        # Both take part.
        assert uncertainty.mean() > 0.2 * distance.mean()
        maps = expected.anomaly_map.numpy()
        assert maps.shape == (batch, 1, 64, 64)
        assert maps.std() > 0.05
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, *(graph(images.numpy()) for graph in graphs)):
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4, rtol=1e-4)
            np.testing.assert_allclose(outputs["pred_score"], expected.pred_score.numpy(), atol=1e-4, rtol=1e-4)


def test_torch_export_needs_no_data(model, tmp_path):
    loaded = torch.load(model.to_torch(tmp_path), weights_only=False)["model"].eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(rand_images(2)).anomaly_map, model(rand_images(2)).anomaly_map)
