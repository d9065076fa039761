# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""What is asked for before a network is brought to eight bits; the contract has what comes of it."""

import pytest
from anomalib.data import MVTecAD
from anomalib.deploy import CompressionType

from anomalib_ssl import CutPaste
from anomalib_ssl.training import quantization

INT8_PTQ = {"compression_type": CompressionType.INT8_PTQ}


@pytest.fixture(scope="module")
def model():
    return CutPaste(backbone="test_resnet", image_size=64, visualizer=False)


def test_a_datamodule_is_needed(model, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "module_available", lambda _: True)
    with pytest.raises(ValueError, match="datamodule must be given with compression_type INT8_PTQ, got None"):
        model.to_openvino(tmp_path, **INT8_PTQ)
    assert not any(tmp_path.iterdir())


def test_nncf_is_needed(model, mvtec_root, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "module_available", lambda _: False)
    with pytest.raises(ModuleNotFoundError, match=r"NNCF: pip install anomalib-ssl\[export\]"):
        model.to_openvino(tmp_path, datamodule=MVTecAD(root=mvtec_root, category="plate"), **INT8_PTQ)
    assert not any(tmp_path.iterdir())
