# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of CutPaste against eager scores."""

import numpy as np
import pytest
import torch

from anomalib_ssl import CutPaste

PATCH = {"mode": "patch", "train_crop_size": 32, "patch_size": 32, "stride": 16, "dense": "windows"}
CONVOLUTIONAL = {**PATCH, "dense": "convolutional", "backbone": "test_efficientnet"}
KINDS = {
    "image": {},
    "windows": {**PATCH, "window_chunk": 5, "window_precision": "bfloat16"},
    "windows_per_location": {**PATCH, "per_location": True},
    "convolutional_per_location": {**CONVOLUTIONAL, "per_location": True},
    "ensemble": {**CONVOLUTIONAL, "ensemble": 2},
}

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def fitted(**kwargs) -> CutPaste:
    """A fitted model whose post-processor has thresholds, as after training."""
    model = CutPaste(**{"backbone": "test_resnet", "image_size": 64, "seed": 0, "visualizer": False, **kwargs}).eval()
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model.fit_statistics(images.split(4))
    batch = in_full_precision(model.model, model.pre_processor(rand_images(4)))
    post_processor = model.post_processor
    for name, values in (("image", batch.pred_score), ("pixel", batch.anomaly_map)):
        # A range wide enough for the scores of other images.
        getattr(post_processor, f"{name}_min").copy_(-values.abs().max())
        getattr(post_processor, f"{name}_max").copy_(values.abs().max())
        getattr(post_processor, f"_{name}_threshold").copy_(values.mean())
    return model


def rand_images(batch):
    return torch.rand(batch, 3, 80, 96, generator=torch.Generator().manual_seed(batch))


@torch.no_grad()
def in_full_precision(model, images):
    """Eager results; graphs know no autocast."""
    networks = [module for module in model.modules() if hasattr(module, "window_precision")]
    before = [network.window_precision for network in networks]
    for network in networks:
        network.window_precision = "float32"
    result = model(images)
    for network, precision in zip(networks, before, strict=True):
        network.window_precision = precision
    return result


def assert_scores(outputs, expected):
    scores = expected.pred_score.numpy()
    # Of the range that scores are scaled to, and not cut off at its ends.
    assert ((scores > 0) & (scores < 1)).all()
    np.testing.assert_allclose(outputs["pred_score"], scores, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_with_heat_map_equals_eager(kind, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model = fitted(**KINDS[kind], export_map=True)
    path = model.to_onnx(tmp_path, input_size=(80, 96))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    # OpenVINO reads ONNX files in two ways that transform constants differently.
    graphs = [openvino.Core().compile_model(read, "CPU", FULL) for read in (path, openvino.convert_model(path))]
    for batch in (1, 4):
        images = rand_images(batch)
        expected = in_full_precision(model, images)
        maps = expected.anomaly_map.numpy()
        assert maps.shape == (batch, 1, 64, 64)
        assert ((maps > 0) & (maps < 1)).mean() > 0.9
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, *(graph(images.numpy()) for graph in graphs)):
            assert_scores(outputs, expected)
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4)


def test_openvino_gives_the_score_alone(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = fitted()
    path = model.to_openvino(tmp_path, input_size=(80, 96))
    graph = openvino.Core().compile_model(path, "CPU", FULL)
    assert {output.get_any_name() for output in graph.outputs} == {"pred_score", "pred_label"}
    for batch in (1, 4):
        expected = in_full_precision(model, rand_images(batch))
        assert_scores(graph(rand_images(batch).numpy()), expected)
        # The model itself still localises.
        assert expected.anomaly_map is not None
