# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""A small benchmark: two models of different arguments, one that fails."""

import pytest
import yaml

TINY = {
    "CutPaste": {"backbone": "resnet10t", "image_size": 32, "max_updates": 2},
    "SSM": {"widths": [4, 8], "image_size": 32, "cell_sizes": [8], "max_updates": 2, "refinement_passes": 1},
    "AutoencoderProjection": {
        "widths": [3, 4, 5],
        "image_size": 32,
        "sdc_layers": 1,
        "sdc_width": 3,
        "max_updates": 2,
    },
    "DynamicLocalAugmentation": {"backbone": "resnet10t", "image_size": 32, "max_updates": 2, "mc_samples": 2},
    "NSA": {"backbone": "resnet10t", "image_size": 32, "max_updates": 2},
    "STSSAD": {"backbone": "resnet10t", "image_size": 32, "max_updates": 2},
    "Padim": {"backbone": "resnet18", "pre_trained": False, "layers": ["layer3"], "n_features": 4},
    "Patchcore": {"backbone": "resnet18", "pre_trained": False, "layers": ["layer3"], "coreset_sampling_ratio": 0.1},
}


@pytest.fixture(scope="session")
def tiny():
    """Arguments with which each model takes seconds."""
    return TINY


@pytest.fixture(scope="module")
def configuration(mvtec_root):
    return {
        "accelerator": "cpu",
        "throughput_batch_size": 3,
        "picture_size": 16,
        "benchmark": {
            "seed": 0,
            "model": {
                "grid": [
                    {"class_path": "CutPaste", "init_args": TINY["CutPaste"], "seed": [0, 1], "label": "ours"},
                    {"class_path": "Padim", "init_args": {**TINY["Padim"], "layers": ["none"]}},
                    {"class_path": "anomalib.models.Padim", "init_args": TINY["Padim"]},
                ]
            },
            "data": {
                "class_path": "MVTecAD",
                "init_args": {"root": str(mvtec_root), "category": "plate", "train_batch_size": 4, "num_workers": 0},
            },
        },
    }


@pytest.fixture
def write(tmp_path):
    """Write a configuration to a file."""

    def write(configuration):
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(configuration), encoding="utf-8")
        return path

    return write
