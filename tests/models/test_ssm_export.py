# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Exported graphs of SSM, the whole refinement inside, against eager maps."""

import numpy as np
import pytest
import torch

from anomalib_ssl import SSM

FULL = {"INFERENCE_PRECISION_HINT": "f32"}


def rand_images(batch):
    coarse = torch.rand(batch, 3, 10, 12, generator=torch.Generator().manual_seed(batch))
    return torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def model() -> SSM:
    """A model that refines part of each image, by decisions that rounding does not change, in chunks.

    Each pixel has the lowest of its errors: graphs of the other kinds lack parts of this and are else the same.
    """
    model = SSM(
        widths=(4, 8),
        image_size=32,
        cell_sizes=(16, 32),
        refinement_passes=2,
        score="refined_max",
        heat_map="refined",
        equal_exposure=False,
        seed=0,
        visualizer=False,
        post_processor=False,
        evaluator=False,
    ).eval()
    model.model.refinement.chunk, model.model.refinement.ratio, model.model.refinement.map_sigma = 5, 0.6, 1.0
    model.fit_statistics([model.pre_processor(rand_images(2))])
    maps = [model.model.refine(model.pre_processor(rand_images(batch)))[0].anomaly_map.flatten() for batch in (1, 4)]
    values = torch.cat(maps).sort().values
    middle = values[len(values) * 4 // 10 : len(values) * 6 // 10]
    widest = middle.diff().argmax()
    assert middle.diff()[widest] > 1e-4
    model.model.refinement.threshold = float(middle[widest : widest + 2].mean())
    return model


@pytest.mark.slow
def test_onnx_and_openvino_equal_eager(model, tmp_path):
    onnxruntime, openvino = pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    path = model.to_onnx(tmp_path, input_size=(40, 48))
    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    assert names == ["pred_score", "anomaly_map"]
    graph = openvino.Core().compile_model(openvino.convert_model(path), "CPU", FULL)
    for batch in (1, 4):
        images = rand_images(batch)
        with torch.no_grad():
            expected = model(images)
        *_, last = model.model.refine(model.pre_processor(images))
        assert 0.1 < last.uncovered.mean() < 0.9
        maps = expected.anomaly_map.numpy()
        assert maps.shape == (batch, 1, 32, 32)
        assert maps.max() > 0.1
        from_onnx = dict(zip(names, session.run(None, {"input": images.numpy()}), strict=True))
        for outputs in (from_onnx, graph(images.numpy())):
            np.testing.assert_allclose(outputs["anomaly_map"], maps, atol=1e-4)
            np.testing.assert_allclose(outputs["pred_score"], expected.pred_score.numpy(), atol=1e-4)
