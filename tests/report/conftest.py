# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Invented results, to see what a report makes of them."""

import io
import json

import numpy as np
import pytest

from anomalib_ssl.comparison.row import Row
from anomalib_ssl.comparison.store import Outcome, Store

NUMBERS = {"CutPaste": 0.90, "SSM": 0.85, "Patchcore": 0.99, "STSSAD": 0.95}
CATEGORIES = ("carpet", "bottle", "metal_nut")


def score(model, category, seed):
    """An invented score that tells model, category and seed apart."""
    return NUMBERS[model] + 0.003 * CATEGORIES.index(category) + 0.001 * seed


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def pictures(job, model, category):
    """Four images; maps of CutPaste are right about the first defect and wrong about the second, others are flat."""
    rng = np.random.default_rng(0)
    masks = np.zeros((4, 8, 8), bool)
    masks[0, :3, :3] = masks[1, 4:, 4:] = masks[2, 2:5, 2:5] = True
    maps = np.full((4, 8, 8), 100, np.uint8)
    if model == "CutPaste":
        maps[0][masks[0]] = 250
        maps[1][masks[1]] = 0
    names = np.array(["scratch/000.png", "scratch/001.png", "hole/000.png", "good/000.png"])
    labels = np.array([True, True, True, False])
    images = npz(names=names, labels=labels, masks=masks, images=rng.integers(0, 255, (4, 8, 8, 3), dtype=np.uint8))
    order = [3, 0, 2, 1]  # a job may have seen the images in another order
    scores = np.array([0.9, 0.2, 0.6, 0.55])
    arrays = npz(names=names[order], labels=labels[order], maps=maps[order], scores=scores[order])
    return {f"{job}.npz": arrays, f"MVTecAD-{category}.images.npz": images}


@pytest.fixture(scope="session", name="pictures")
def pictures_fixture():
    return pictures


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Four models on three categories: SSM with one seed, STSSAD without the last category, and a failed job."""
    store = Store(tmp_path_factory.mktemp("results"))
    for model in NUMBERS:
        for category in CATEGORIES[: 2 if model == "STSSAD" else 3]:
            for seed in (0,) if model == "SSM" else (0, 1, 2):
                value = score(model, category, seed)
                job = f"{model}-{category}-{seed}"
                row = Row(
                    job=job,
                    status="ok",
                    model=model,
                    dataset="MVTecAD",
                    category=category,
                    seed=seed,
                    model_args=json.dumps({"unlabeled_source": "test"}) if model == "STSSAD" else None,
                    transductive=model == "STSSAD",
                    pretrained=model == "Patchcore",
                    resolution="256x256",
                    budget="1 epoch" if model == "Patchcore" else "10000 updates",
                    image_AUROC=value,
                    pixel_AUROC=value - 0.1,
                    images_per_second_1=3.0,
                    images_per_second_n=20.0 * (1 + list(NUMBERS).index(model)),
                    fit_duration=100.0,
                    job_duration=110.0,
                    parameters=11_000_000,
                    device="<GPU & more>",
                    started="2026-01-02T03:04:05+00:00",
                    anomalib="2.7.0",
                )
                kept = pictures(job, model, category) if model in ("CutPaste", "SSM") and category == "bottle" else {}
                store.save(Outcome(row, {}, kept))
    failed = Row(
        job="x", status="failed", model="SSM", dataset="MVTecAD", seed=1, error="RuntimeError: <b>no</b> memory"
    )
    store.save(Outcome(failed))
    return store.folder
