# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""Whether planted defects tell what real ones do: rank correlations over models and over categories.

Run ``anomalib-ssl qualify ... --real`` for each model and category, each into a folder of its own, and then
``python benchmarks/planted_and_real.py FOLDER``: all files ``qualification.json`` below it are read. Checkpoints whose
paths differ only in a folder of the category's name are one model.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from scipy.stats import mannwhitneyu, spearmanr

from anomalib_ssl.qualification.record import ALL
from anomalib_ssl.report.noise import RESAMPLES, interval

LEAST = 3
"""A rank correlation takes so many models, or categories."""


def lines(path: Path) -> list[dict[str, object]]:
    """Read a file: for each model and family the share of planted defects found, their AUROC, and both of real ones."""
    record = json.loads(path.read_text(encoding="utf-8"))
    category, defects = record["settings"]["category"], pd.DataFrame(record["defects"])
    found = []
    for model, real in record["real"].items():
        sound = record["models"][model]["sound_scores"]
        folders = Path(record["settings"]["ckpt_paths"][model]).parts
        for family in [ALL, *defects.family.unique()]:
            chosen = defects if family == ALL else defects[defects.family == family]
            scores = [each[model] for each in chosen.scores]
            found.append(
                {
                    "model": "/".join(folder for folder in folders if folder != category),
                    "category": category,
                    "family": family,
                    "planted AUROC": mannwhitneyu(scores, sound).statistic / (len(scores) * len(sound)),
                    "planted recall": np.mean([each[model] for each in chosen.hits]),
                    "real AUROC": real["auroc"],
                    "real recall": real["hits"]["count"] / real["hits"]["total"],
                }
            )
    return found


def correlations(table: pd.DataFrame, within: str) -> pd.DataFrame:
    """Rank correlations (Spearman) within each category or model, their mean, and its 95 % interval by a bootstrap."""
    rows = []
    for family, members in table.groupby("family", sort=False):
        for measure in ("AUROC", "recall"):
            values = [
                spearmanr(group[f"planted {measure}"], group[f"real {measure}"]).statistic
                for _, group in members.groupby(within)
                if len(group) >= LEAST
            ]
            known = np.array([value for value in values if np.isfinite(value)])
            if len(known):
                drawn = np.random.default_rng(0).choice(known, (RESAMPLES, len(known))).mean(axis=1)
                low, high = interval(drawn, len(known))
                rows.append((family, measure, known.mean(), low, high, len(known)))
    return pd.DataFrame(rows, columns=["family", "measure", "mean", "low", "high", f"number of {within} groups"])


def main(folder: Path) -> None:
    """Print correlations over models within a category, and over categories within a model.

    Args:
        folder: Folder of results.
    """
    table = pd.DataFrame([line for path in sorted(folder.rglob("qualification.json")) for line in lines(path)])
    if table.empty:
        msg = f"folder: no results with real defects below '{folder}'; make them with anomalib-ssl qualify --real."
        raise SystemExit(msg)
    for within, over in (("category", "models"), ("model", "categories")):
        print(f"\nOver {over}, within each {within}:")
        print(correlations(table, within).to_string(index=False, float_format="%.2f"))


if __name__ == "__main__":
    auto_cli(main)
