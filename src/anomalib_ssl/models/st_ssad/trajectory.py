# Copyright (C) 2026 anomalib-ssl contributors
# SPDX-License-Identifier: Apache-2.0

"""The course of a tuning: recorded update by update, saved as a table and a picture."""

import csv
import math
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

MEASURES = ("validation_loss", "train_loss", "accuracy")
"""What is recorded besides the parameters."""

TITLES = {
    "area": "area, share of the image",
    "aspect": "width / height",
    "angle": "angle, degrees",
    "validation_loss": "validation loss",
    "train_loss": "training loss",
    "accuracy": "share told apart",
}


class Trajectory:
    """Parameters and losses over the updates of a tuning.

    Rows stay on the device until they are asked for, so that recording makes no host wait.

    Args:
        parameters: Names of the tuned parameters.
    """

    def __init__(self, parameters: tuple[str, ...]) -> None:
        self.columns = ("update", "candidate", *parameters, *MEASURES)
        self._table = torch.empty(0, len(self.columns))
        self._updates: list[tuple[int, int]] = []
        self._rows: list[torch.Tensor] = []

    def add(self, update: int, candidate: int | None, values: dict[str, torch.Tensor]) -> None:
        """Record an update.

        Args:
            update: Its number, from 0.
            candidate: Number of the start that is followed; None for the best of them.
            values: Scalars by the names of the columns, on one device; what is missing was not measured.
        """
        unknown = torch.full_like(next(iter(values.values())), math.nan, dtype=torch.float32)
        row = [values.get(name, unknown).detach().float() for name in self.columns[2:]]
        self._updates.append((update, -1 if candidate is None else candidate))
        self._rows.append(torch.stack(row))

    def table(self) -> torch.Tensor:
        """All rows on the host, shape (N, columns); ``candidate`` is -1 for the best of the starts."""
        if self._rows:
            fetched = torch.cat([torch.tensor(self._updates), torch.stack(self._rows).cpu()], dim=1)
            self._table = torch.cat([self._table, fetched])
            self._updates, self._rows = [], []
        return self._table

    def load(self, table: torch.Tensor) -> None:
        """Go on from an earlier :meth:`table`."""
        self._table, self._updates, self._rows = table, [], []

    def recent(self, name: str, share: float = 0.5) -> float:
        """Mean of a column over the last part of the final tuning; NaN where there is none."""
        rows = self.table()
        values = rows[rows[:, 1] < 0][:, self.columns.index(name)]
        return float(values[int(len(values) * (1 - share)) :].nanmean()) if len(values) else math.nan

    def save(self, folder: Path, title: str) -> None:
        """Write ``tuning.csv`` and ``tuning.png`` into a folder."""
        table = self.table()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "tuning.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            for update, candidate, *values in table.tolist():
                cells = ["" if math.isnan(value) else f"{value:.6g}" for value in values]
                writer.writerow([int(update), "best" if candidate < 0 else int(candidate), *cells])
        # No metadata: the file's bytes say what was drawn and nothing else.
        draw_trajectory(table, self.columns, title).savefig(
            folder / "tuning.png", format="png", metadata={"Software": None}
        )


def draw_trajectory(table: torch.Tensor, columns: tuple[str, ...], title: str = "") -> Figure:
    """Draw every column over the updates, one line for each start and one for what followed.

    Args:
        table: Shape (N, columns), the first two of them update and candidate.
        columns: Names of the columns.
        title: Title of the picture.

    Returns:
        The figure, one panel for each column but the first two.
    """
    shown = columns[2:]
    figure = Figure(figsize=(7, 1.7 * len(shown) + 0.5), dpi=110, facecolor="white", layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for column, panel in enumerate(axes, start=2):
        for candidate in sorted({int(value) for value in table[:, 1].tolist()}):
            rows = table[table[:, 1] == candidate]
            label, colour = ("best start", "black") if candidate < 0 else (f"start {candidate}", f"C{candidate}")
            panel.plot(rows[:, 0].tolist(), rows[:, column].tolist(), color=colour, linewidth=1.2, label=label)
        panel.set_ylabel(TITLES[columns[column]], fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(alpha=0.3)
    axes[-1].set_xlabel("update", fontsize=8)
    if len(table):
        axes[0].legend(fontsize=7, ncols=5, loc="upper right")
    figure.suptitle(title, fontsize=9)
    return figure


class SaveTrajectory(Callback):
    """Write the course of the tuning into the run's folder: at each validation, at the end, when a run breaks off."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what there is so far."""
        if trainer.state.fn == "fit":
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all."""
        self._save(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what there is, so that nothing is lost."""
        del exception
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, pl_module: Any) -> None:
        trajectory: Trajectory = pl_module.tuning.trajectory
        if trainer.fast_dev_run or not len(trajectory.table()):  # type: ignore[attr-defined]
            return
        kind = "transductive: tuned with test images" if pl_module.transductive else "tuned with images not tested on"
        augmentation = pl_module.augmentation
        trajectory.save(Path(trainer.default_root_dir), f"{augmentation.name}: {augmentation.in_words()} ({kind})")
