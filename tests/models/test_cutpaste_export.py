# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of CutPaste's special kinds against eager scores; the contract has those of the plain ones."""

import numpy as np
import pytest
import torch

from anomalib_ssl import CutPaste, CutPastePatch

PATCH = {"crop_size": 32, "window_size": 32, "stride": 16, "score": "windows_max", "heat_map": "windows"}
CONVOLUTIONAL = {**PATCH, "dense": "convolutional", "backbone": "test_efficientnet"}
KINDS = {
    "ensemble": (CutPaste, {"ensemble": 2}),
    "windows_per_location": (CutPastePatch, {**PATCH, "dense": "windows", "per_location": True}),
    "convolutional": (CutPastePatch, {**CONVOLUTIONAL, "ensemble": 2}),
    "convolutional_per_location": (CutPastePatch, {**CONVOLUTIONAL, "per_location": True}),
}

pytestmark = pytest.mark.slow

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def fitted(kind):
    """A fitted model whose post-processor has thresholds, as after training."""
    network, arguments = KINDS[kind]
    model = network(**{"backbone": "test_resnet", "image_size": 64, "seed": 0, "visualizer": False, **arguments}).eval()
    model.fit_statistics(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(4))
    with torch.no_grad():
        batch = model.model(model.pre_processor(rand_images(4)))
    for name, values in (("image", batch.pred_score), ("pixel", batch.anomaly_map)):
        # A range wide enough for the scores of other images.
        getattr(model.post_processor, f"{name}_min").copy_(-2 * values.abs().max())
        getattr(model.post_processor, f"{name}_max").copy_(2 * values.abs().max())
        getattr(model.post_processor, f"_{name}_threshold").copy_(values.mean())
    return model


def rand_images(batch):
    return torch.rand(batch, 3, 80, 96, generator=torch.Generator().manual_seed(batch))


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_equal_eager(kind, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model = fitted(kind)
    path = model.to_onnx(tmp_path, input_size=(80, 96))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    # OpenVINO reads ONNX files in two ways that transform constants differently.
    graphs = [openvino.Core().compile_model(read, "CPU", FULL) for read in (path, openvino.convert_model(path))]
    for batch in (1, 4):
        images = rand_images(batch)
        with torch.no_grad():
            expected = model(images)
        scores, maps = expected.pred_score.numpy(), expected.anomaly_map.numpy()
        assert maps.shape == (batch, 1, 64, 64)
        # Of the range that scores are scaled to, and not cut off at its ends.
        assert ((scores > 0) & (scores < 1)).all()
        assert ((maps > 0) & (maps < 1)).mean() > 0.9
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, *(graph(images.numpy()) for graph in graphs)):
            np.testing.assert_allclose(outputs["pred_score"], scores, atol=1e-4)
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4)
