# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Dense scoring, and scorers, as ONNX graphs."""

import numpy as np
import pytest
import torch
from torch import nn

from anomalib_ssl.scoring import (
    Errors,
    GaussianDensity,
    LocatedGaussianDensity,
    Pixels,
    RandomFilters,
    Scorer,
    as_rows,
    density_map,
    gaussian_upsample,
    grid_size,
    map_windows,
)

SIZE = (30, 26)
WINDOW_SIZE, STRIDE = 12, 4


class DenseScoring(nn.Module):
    """Images to the maps of both densities, upsampled in both ways."""

    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.shared = GaussianDensity(8)
        self.located = LocatedGaussianDensity(8, grid_size(SIZE, WINDOW_SIZE, STRIDE), dims=5)

    def features(self, images):
        return map_windows(images, self.network, WINDOW_SIZE, STRIDE, chunk=None)

    def forward(self, images):
        features = self.features(images)
        shared, located = density_map(self.shared, features), self.located(features)
        return (
            gaussian_upsample(shared, SIZE, WINDOW_SIZE, STRIDE, sigma=3.0),
            gaussian_upsample(located, SIZE, WINDOW_SIZE, STRIDE, sigma=3.0),
        )


@pytest.mark.slow
def test_onnx_with_another_batch_size_equals_eager(tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = DenseScoring().eval()
    with torch.no_grad():
        features = model.features(torch.rand(24, 3, *SIZE))
        model.shared.fit([as_rows(features)])
        model.located.fit([features])
        path = tmp_path / "model.onnx"
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(model, (torch.rand(2, 3, *SIZE),), path, dynamo=True, dynamic_shapes=(batch,), verbose=False)
        images = torch.rand(5, 3, *SIZE)
        expected = model(images)

    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert not {"Loop", "Scan", "If"} & set(operators)
    assert operators.count("Conv") == 1
    session = onnxruntime.InferenceSession(path)
    results = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    for result, each in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, each.numpy(), rtol=1e-5, atol=1e-5 * each.abs().max().item())


class Restoring(nn.Module):
    """Images to score and map, from two kinds of errors of a convolution."""

    def __init__(self, score, heat_map):
        super().__init__()
        self.network = nn.Conv2d(3, 3, 3, padding=1)
        kinds = {"one": 1, "three": 3}
        maps = {name: Errors(name, count) for name, count in kinds.items()}
        maps |= {f"pixels_{name}": Pixels(name, SIZE, 3, count) for name, count in kinds.items()}
        self.scorer = Scorer(maps, SIZE, score, heat_map, ("one_max", "one"), filters=RandomFilters(SIZE))

    def evidence(self, images, names):
        errors = (self.network(images) - images).abs()
        return {"one": errors.mean(dim=1, keepdim=True), "three": errors}

    def forward(self, images):
        scored = self.scorer(images, self.evidence)
        return scored.pred_score, scored.anomaly_map


@pytest.mark.slow
@pytest.mark.parametrize(
    ("score", "heat_map"),
    [("auto", "auto"), ("three_top", "three"), ("pixels_one_mean", "pixels_three"), ("filters_max", "one+filters")],
)
def test_onnx_and_openvino_of_a_scorer_equal_eager(score, heat_map, tmp_path):
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    model = Restoring(score, heat_map).eval()
    path = tmp_path / "model.onnx"
    with torch.no_grad():
        model.scorer.fit(torch.rand(24, 3, *SIZE).split(7), model.evidence, [torch.rand(9, 3, *SIZE)])
        batch = {0: torch.export.Dim("batch")}
        torch.onnx.export(model, (torch.rand(2, 3, *SIZE),), path, dynamo=True, dynamic_shapes=(batch,), verbose=False)
        # Also of images far from all that was seen.
        images = torch.rand(5, 3, *SIZE) * torch.tensor([1, 0, 0.5, 1e3, 1e6]).view(-1, 1, 1, 1)
        expected = model(images)
    assert expected[0].max() > 3
    # Nothing of the other candidates: statistics of pixels are as large as images.
    sizes = [tuple(constant.dims)[-2:] for constant in onnx.load(path).graph.initializer]
    assert (SIZE in sizes) == any("pixels" in name for name in model.scorer.chosen)
    session = onnxruntime.InferenceSession(path)
    results = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    compiled = openvino.Core().compile_model(openvino.convert_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for outputs in (results, list(compiled(images.numpy()).values())):
        for result, each in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(result, each.numpy(), rtol=1e-3, atol=1e-3)
