# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Compare the densities of a trained CutPaste: the network stays, covariance, scaling and map smoothing change.

Run as ``python benchmarks/cutpaste_density.py --ckpt_path model.ckpt --root datasets/MVTecAD --category bottle``.
"""

import logging
import tempfile
import warnings
from itertools import product
from pathlib import Path

from anomalib.data import MVTecAD
from anomalib.engine import Engine
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from anomalib_ssl import CutPaste
from anomalib_ssl.scoring.gaussian import SHRINKAGES


def compare(ckpt_path: Path, root: Path, category: str, map_sigmas: tuple[float, ...] = (0.0, 4.0)) -> None:
    """Fit, validate and test each density on one category.

    Args:
        ckpt_path: Checkpoint of a trained CutPaste.
        root: Folder of a data set in the layout of MVTec AD.
        category: Category of that data set.
        map_sigmas: Smoothing of the heat map to try, in pixels.
    """
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    table = Table("shrinkage", "unit length", "map sigma", "image AUROC", "pixel AUROC", title=category)
    for shrinkage, l2norm, sigma in product(SHRINKAGES, (True, False), map_sigmas):
        scoring = {"score": "density", "heat_map": "gradcam", "gde_shrinkage": shrinkage, "map_sigma": sigma}
        model = CutPaste.load_from_checkpoint(ckpt_path, **scoring, visualizer=False)
        model.model.scorer.density.l2_normalize = l2norm
        datamodule = MVTecAD(root=root, category=category, num_workers=0)
        with tempfile.TemporaryDirectory() as folder:
            engine = Engine(default_root_dir=folder, enable_progress_bar=False)
            engine.validate(_with_fit(model, datamodule), datamodule=datamodule, verbose=False)
            (metrics,) = engine.test(model, datamodule=datamodule, verbose=False)
        scores = [f"{100 * metrics[name]:.1f}" for name in ("image_AUROC", "pixel_AUROC")]
        table.add_row(shrinkage, "yes" if l2norm else "no", f"{sigma:g}", *scores)
    Console().print(table)


def _with_fit(model: CutPaste, datamodule: MVTecAD) -> CutPaste:
    datamodule.prepare_data()
    datamodule.setup()
    transform = model.pre_processor.transform
    model.fit_statistics([transform(batch.image).to(model.device) for batch in datamodule.train_dataloader()])
    return model


if __name__ == "__main__":
    auto_cli(compare, as_positional=False)
