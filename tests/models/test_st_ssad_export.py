# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of ST-SSAD against eager scores."""

import numpy as np
import pytest
import torch

from anomalib_ssl import STSSAD

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def fitted(**kwargs) -> STSSAD:
    """A fitted model whose post-processor has thresholds, as after training."""
    model = STSSAD(backbone="test_resnet", image_size=64, seed=0, visualizer=False, **kwargs).eval()
    model.fit_statistics(torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0)).split(4))
    with torch.no_grad():
        batch = model.model(model.pre_processor(rand_images(4)))
    for name, values in (("image", batch.pred_score), ("pixel", batch.anomaly_map)):
        # A range wide enough for the scores of other images.
        getattr(model.post_processor, f"{name}_min").copy_(-values.abs().max())
        getattr(model.post_processor, f"{name}_max").copy_(values.abs().max())
        getattr(model.post_processor, f"_{name}_threshold").copy_(values.mean())
    return model


def rand_images(batch):
    return torch.rand(batch, 3, 80, 96, generator=torch.Generator().manual_seed(batch))


def test_graphs_equal_eager(tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    model = fitted(export_map=True)
    path = model.to_onnx(tmp_path, input_size=(80, 96))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    graph = openvino.Core().compile_model(path, "CPU", FULL)
    for batch in (1, 4):
        images = rand_images(batch)
        with torch.no_grad():
            expected = model(images)
        scores, maps = expected.pred_score.numpy(), expected.anomaly_map.numpy()
        assert maps.shape == (batch, 1, 64, 64)
        assert ((scores > 0) & (scores < 1)).all()
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, graph(images.numpy())):
            np.testing.assert_allclose(outputs["pred_score"], scores, atol=1e-4)
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4)


def test_the_score_alone_by_default(tmp_path):
    openvino = pytest.importorskip("openvino")
    model = fitted(score="logit")
    graph = openvino.Core().compile_model(model.to_openvino(tmp_path, input_size=(80, 96)), "CPU", FULL)
    assert {output.get_any_name() for output in graph.outputs} == {"pred_score", "pred_label"}
    for batch in (1, 4):
        with torch.no_grad():
            expected = model(rand_images(batch))
        np.testing.assert_allclose(graph(rand_images(batch).numpy())["pred_score"], expected.pred_score, atol=1e-4)
        assert expected.anomaly_map is not None
